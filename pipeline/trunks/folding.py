"""Fold norms into the layers before them: exact algebra, so maps stay the same up to rounding.

What `fuse` saw of one run of a network needn't hold for all: its maps are compared, and where they differ it
is used as written.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from pipeline.errors import out_of_memory
from pipeline.trunks.base import Trunk
from pipeline.trunks.fuse import fuse

FUSED_TOLERANCE = 5e-4
"""How far a map of a fused trunk may be off, as a fraction of its largest value."""


def folded(trunk: Trunk) -> nn.Module:
    """The network as extraction runs it on a CPU, norms folded and channels last, but in plain torch, which
    an exporter can record."""
    module = fused(own_copy(trunk), trunk, kernels=False)
    return module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def own_copy(trunk: Trunk) -> nn.Module:
    """The network to be changed in place; of a stack, with its norms folded."""
    module = fold_norms(trunk.module) if isinstance(trunk.module, nn.Sequential) else trunk.module
    return copy.deepcopy(module).eval().requires_grad_(False)


def fused(module: nn.Module, trunk: Trunk, kernels: bool) -> nn.Module:
    """The network in fewer passes, unless it would then compute something else.

    kernels: whether to use oneDNN's, for float32 on a CPU.
    """
    side = trunk.transform.image_px
    image = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    try:
        shorter = fuse(copy.deepcopy(module), image[:1], kernels)
        with torch.no_grad():
            expected, found = module(image), shorter(image.contiguous(memory_format=torch.channels_last))
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        if out_of_memory(error):
            raise
        print(f"trunk {trunk.name}: used as written, since it can't be fused: {str(error).splitlines()[0]}")
        return module
    pairs = zip(*([maps] if isinstance(maps, Tensor) else maps for maps in (expected, found)), strict=True)
    worst = max(float((a - b).abs().max() / a.abs().max().clamp(min=1e-6)) for a, b in pairs)
    if not worst <= FUSED_TOLERANCE:
        print(f"trunk {trunk.name}: used as written, since its maps differ by {worst:.1g} when fused")
        return module
    return shorter


def fold_norms(stack: nn.Sequential) -> nn.Sequential:
    """The same function with every batch norm folded into the convolution before it.

    A max pooling may stand between the two if the norm's scale is positive: x ↦ s·x + t is then increasing,
    and the maximum of increased values is the increased maximum. Where it is not, the norm is left alone.
    """
    layers = list(copy.deepcopy(stack).eval())
    for i, norm in enumerate(layers):
        if type(norm) is not nn.BatchNorm2d:  # timm's subclass has an activation in it
            continue
        pooled = i > 0 and isinstance(layers[i - 1], nn.MaxPool2d)
        j = i - 1 - pooled
        conv = layers[j] if j >= 0 else None
        increases = norm.weight is None or bool((norm.weight > 0).all())
        if isinstance(conv, nn.Conv2d) and (increases or not pooled):
            # BatchNorm2d's statistics are typed as optional; they are there unless it was built without
            mean, var = (t for t in (norm.running_mean, norm.running_var) if t is not None)
            conv.weight, conv.bias = fuse_conv_bn_weights(
                conv.weight, conv.bias, mean, var, norm.eps, norm.weight, norm.bias
            )
            layers[i] = nn.Identity()
    return nn.Sequential(*(layer for layer in layers if not isinstance(layer, nn.Identity)))
