"""Make a trunk ready for inference: norms folded, channels last, half precision on a GPU, uint8 input.

Folding is exact algebra, so the prepared trunk computes the same maps up to rounding.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.trunks.base import Trunk


class PreparedTrunk(nn.Module):
    """uint8 images (B, 3, S, S) in RGB → float maps (B, C, H, W), in `dtype`, on `device`."""

    def __init__(self, trunk: Trunk, device: torch.device, precision: str = "auto") -> None:
        """`precision` is float32, float16, bfloat16 or auto: float16 on a GPU, float32 elsewhere."""
        super().__init__()
        if precision == "auto":
            precision = "float16" if device.type == "cuda" else "float32"
        self.device, self.dtype = device, getattr(torch, precision)
        self.transform = trunk.transform
        self.best_batch = 64 if device.type == "cpu" else 512
        module = fold_norms(trunk.module) if isinstance(trunk.module, nn.Sequential) else trunk.module
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.module.to(device=device, dtype=self.dtype)
        self.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        # (x/255 − mean) / std, as one multiply and one add
        std = torch.tensor(trunk.transform.std)
        mean = torch.tensor(trunk.transform.mean)
        self.scale = (1 / (255 * std)).view(1, 3, 1, 1).to(device)
        self.shift = (-mean / std).view(1, 3, 1, 1).to(device)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        images = images.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        normalised = torch.addcmul(self.shift, images.float(), self.scale)
        return self.module(normalised.to(self.dtype))


def fold_norms(stack: nn.Sequential) -> nn.Sequential:
    """The same function with every batch norm folded into the convolution before it.

    A max pooling may stand between the two if the norm's scale is positive: x ↦ s·x + t is then increasing,
    and the maximum of increased values is the increased maximum. Where it is not, the norm is left alone.
    """
    layers = list(copy.deepcopy(stack).eval())
    for i, norm in enumerate(layers):
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        pooled = isinstance(layers[i - 1], nn.MaxPool2d)
        j = i - 1 - pooled
        conv = layers[j]
        if isinstance(conv, nn.Conv2d) and not (pooled and (norm.weight <= 0).any()):
            # BatchNorm2d's statistics are typed as optional; they are there unless it was built without
            mean, var = (t for t in (norm.running_mean, norm.running_var) if t is not None)
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias
            )
            layers[i] = nn.Identity()
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
