"""Make a trunk ready for inference: uint8 in, norms folded, laid out and rounded as the device likes it.

    GPU    channels last, half precision; in a stack, a bias before a pooling added behind it, to a quarter of
           the numbers
    CPU    float32; a stack in oneDNN's blocked layout from the first layer to the last, the normalisation
           folded too; other networks channels last, with oneDNN's fused kernels (`fuse.py`)

Folding is exact algebra, so the prepared trunk computes the same maps up to rounding.
"""

import torch
from torch import Tensor, nn
from torch._C._nn import mkldnn_reorder_conv2d_weight
from torch.backends import mkldnn

from pipeline.errors import ConfigError, out_of_memory
from pipeline.trunks.base import Trunk, scale_and_shift
from pipeline.trunks.folding import fused, own_copy
from pipeline.trunks.precision import choose_precision


class PreparedTrunk(nn.Module):
    """uint8 images (B, 3, S, S) in RGB → float maps (B, C, H, W), in `dtype`, on `device`; a tuple of them
    for several layers in one run."""

    def __init__(self, trunk: Trunk, device: torch.device, precision: str = "auto") -> None:
        """`precision` is float32, float16, bfloat16 or auto: float16 on a GPU if the trunk bears it, float32
        elsewhere."""
        super().__init__()
        if precision == "auto":
            precision = choose_precision(trunk, device)
        self.device, self.precision, self.dtype = device, precision, getattr(torch, precision)
        self.transform = trunk.transform
        self.best_batch = 32 if device.type == "cpu" else 512
        module = own_copy(trunk)
        self.scale, self.shift = scale_and_shift(trunk.transform, device)
        self.blocked = device.type == "cpu" and self.dtype == torch.float32 and can_be_blocked(module)
        self.normalises = self.blocked and fold_normalisation(module, self.scale, self.shift)
        if self.blocked:
            self.module = block(module)
        else:
            kernels = device.type == "cpu" and self.dtype == torch.float32 and mkldnn.is_available()
            module = fused(module, trunk, kernels)
            if device.type == "cuda" and isinstance(module, nn.Sequential):
                module = bias_behind_pool(module)
            self.module = module.to(device=device, dtype=self.dtype)
            self.module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        values = images.to(self.device, non_blocking=True).float()
        if not self.normalises:
            values = torch.addcmul(self.shift, values, self.scale)
        if self.blocked:
            return self.module(values.to_mkldnn()).to_dense()
        return self.module(values.to(self.dtype).contiguous(memory_format=torch.channels_last))


def map_shape(prepared: PreparedTrunk, image_px: int) -> tuple[int, int, int]:
    """(C, H, W) of the trunk's maps. Raises: ConfigError when they can't be computed at this size."""
    return map_shapes(prepared, image_px)[0]


def map_shapes(prepared: PreparedTrunk, image_px: int) -> list[tuple[int, int, int]]:
    """(C, H, W) of the maps of each layer. Raises: ConfigError as `map_shape`."""
    try:
        maps = prepared(torch.zeros(1, 3, image_px, image_px, dtype=torch.uint8))
    except RuntimeError as error:
        if out_of_memory(error):
            raise ConfigError(
                f"--image-px: {image_px} pixels take more memory than there is for one image; give fewer"
            ) from error
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"--image-px: {image_px} pixels are not enough for this trunk ({reason}); give more"
        ) from error
    shapes = [layer.shape[1:] for layer in ((maps,) if isinstance(maps, Tensor) else maps)]
    return [(channels, height, width) for channels, height, width in shapes]


class AddBias(nn.Module):
    """(B, C, H, W) plus a bias (C,) of each channel, in place."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias.detach(), requires_grad=False)

    def forward(self, maps: Tensor) -> Tensor:
        return maps.add_(self.bias[:, None, None])


def bias_behind_pool(stack: nn.Sequential) -> nn.Sequential:
    """The same function with the bias of a convolution before a max pooling added after it, in place.

    max(x + b) = max(x) + b. cuDNN has no bias of its own: torch adds it in a pass over the whole map.
    """
    layers: list[nn.Module] = []
    for layer in stack:
        before = layers[-1] if layers else None
        layers.append(layer)
        if isinstance(layer, nn.MaxPool2d) and isinstance(before, nn.Conv2d) and before.bias is not None:
            layers.append(AddBias(before.bias))
            before.bias = None
    return nn.Sequential(*layers)


@torch.no_grad()
def fold_normalisation(module: nn.Module, scale: Tensor, shift: Tensor) -> bool:
    """Let the first convolution of a stack take pixels as they are: w·(s·x + t) + b = (w·s)·x + (w·t + b).

    scale, shift: (1, 3, 1, 1). Returns whether it could be done. Padding makes it inexact: zeros at the rim
    would have to be normalised too.
    """
    conv = module[0] if isinstance(module, nn.Sequential) else None
    if not isinstance(conv, nn.Conv2d) or conv.groups > 1 or _padding(conv) != (0, 0):
        return False
    constant = (conv.weight * shift).sum((1, 2, 3))
    conv.bias = nn.Parameter(constant if conv.bias is None else conv.bias + constant, requires_grad=False)
    conv.weight.mul_(scale)
    return True


def can_be_blocked(module: nn.Module) -> bool:
    """Whether this is a stack of nothing but layers that oneDNN has for its own layout."""
    return mkldnn.is_available() and isinstance(module, nn.Sequential) and all(map(_has_blocked_form, module))


def block(stack: nn.Module) -> nn.Module:
    """Lay the weights out in blocks, in place. The stack then takes and gives `to_mkldnn()` tensors."""
    for conv in stack.children():
        if isinstance(conv, nn.Conv2d):
            padding, stride, dilation = map(list, (conv.padding, conv.stride, conv.dilation))
            weight = conv.weight.to_mkldnn()
            weight = mkldnn_reorder_conv2d_weight(weight, padding, stride, dilation, conv.groups)
            conv.weight = nn.Parameter(weight, requires_grad=False)
            if conv.bias is not None:
                conv.bias = nn.Parameter(conv.bias.to_mkldnn(), requires_grad=False)
    return stack


def _has_blocked_form(layer: nn.Module) -> bool:
    if isinstance(layer, nn.Conv2d):
        return _padding(layer) is not None
    if isinstance(layer, nn.MaxPool2d):
        return layer.dilation in (1, (1, 1)) and not layer.return_indices
    return isinstance(layer, nn.ReLU) or (isinstance(layer, nn.GELU) and layer.approximate == "none")


def _padding(conv: nn.Conv2d) -> tuple[int | str, ...] | None:
    """(rows, columns) of zeros around the input; None when it is padded in another way."""
    is_plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
    return tuple(conv.padding) if is_plain else None
