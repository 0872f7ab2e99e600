"""Fewer passes over the maps of any network: norms and activations become part of the layer before them.

    convolution → batch norm → activation      one convolution, with the activation in oneDNN's loop on a CPU
    product of tokens → activation             one product of oneDNN's

What follows what is seen in a run on one image: a module is folded into the one before it only if that ran
once and nothing else read its output.
"""

import dataclasses
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode

ACTIVATIONS: dict[str, str] = {
    "ReLU": "relu",
    "ReLU6": "hardtanh",
    "SiLU": "swish",
    "Swish": "swish",
    "Hardswish": "hardswish",
    "HardSwish": "hardswish",
    "GELU": "gelu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
}
"""Classes of torch and timm, and what oneDNN calls them."""
METADATA = {"dim", "size", "stride", "is_contiguous", "__get__", "numel"}
"""Functions that look at a tensor's shape, not at its numbers."""


def fuse(module: nn.Module, images: Tensor, kernels: bool) -> nn.Module:
    """The same function in fewer passes, in place. Modules keep their names and hooks.

    images: (1, 3, S, S), to see what follows what.
    kernels: whether to use oneDNN's fused kernels, for float32 on a CPU; else only norms are folded.
    """
    seen = _watch(module, images)
    parts = dict(module.named_modules())
    for name in seen.order:
        part = parts[name]
        if seen.runs[name] > 1 or not (_is_conv(part) or (kernels and type(part) is nn.Linear)):
            continue
        after = seen.next_of(name)
        activation: nn.Module | None = None
        if _is_conv(part) and after and _is_norm(parts[after]):
            activation = _fold(part, parts[after])
            _replace(module, after, activation or nn.Identity())
            if activation is None:
                after = seen.next_of(after)
        if not kernels:
            continue
        act = activation or (parts[after] if after else None)
        attribute = _attribute(act)
        if attribute is None and activation is not None:
            after = None  # it stays where the norm was
        if after and attribute:
            _replace(module, after, nn.Identity())
        fused = _Conv.of(part, attribute) if _is_conv(part) else _Product(part, attribute)
        if fused is not None:
            _replace(module, name, fused)
        elif after and attribute and act is not None:
            _replace(module, after, act)  # oneDNN has no kernel for this convolution
    return module


class _Conv(nn.Module):
    """A convolution and an activation in one kernel of oneDNN, (B, C, H, W), channels last."""

    def __init__(self, conv: Any, activation: str | None) -> None:
        super().__init__()
        self.same = type(conv).__name__ == "Conv2dSame"  # timm's: padded by the input's size
        self.kernel_size, self.stride, self.dilation = conv.kernel_size, conv.stride, conv.dilation
        self.padding, self.groups = (0, 0) if self.same else conv.padding, conv.groups
        self.in_channels, self.out_channels = conv.in_channels, conv.out_channels
        weight = conv.weight.detach().contiguous(memory_format=torch.channels_last)
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = conv.bias
        self.activation = activation or ("none", [], "")

    @classmethod
    def of(cls, conv: Any, activation: Any) -> "_Conv | None":
        is_plain = conv.padding_mode == "zeros" and not isinstance(conv.padding, str)
        return cls(conv, activation) if is_plain else None

    def forward(self, maps: Tensor) -> Tensor:
        if self.same:
            maps = F.pad(maps, self._pads(maps))
        name, numbers, method = self.activation
        return torch.ops.mkldnn._convolution_pointwise(
            *(maps, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups),
            *(name, numbers, method),
        )

    def _pads(self, maps: Tensor) -> list[int]:
        pads: list[int] = []
        for at in (1, 0):  # columns first, as F.pad has it
            size, stride = maps.shape[2 + at], self.stride[at]
            extent = (self.kernel_size[at] - 1) * self.dilation[at] + 1
            missing = max((-(-size // stride) - 1) * stride + extent - size, 0)
            pads += [missing // 2, missing - missing // 2]
        return pads


class _Product(nn.Module):
    """A linear layer and an activation in one kernel of oneDNN, over tokens (..., C)."""

    def __init__(self, linear: Any, activation: Any) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.register_buffer("packed", packed, persistent=False)
        self.activation = activation or ("none", [], "")

    def forward(self, tokens: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(tokens, self.packed, self.bias, *self.activation)


def _is_conv(part: nn.Module) -> bool:
    return type(part) is nn.Conv2d or type(part).__name__ == "Conv2dSame"


def _is_norm(part: nn.Module) -> bool:
    """torch's, or timm's that has an activation in it."""
    return type(part) is nn.BatchNorm2d or type(part).__name__ == "BatchNormAct2d"


def _fold(conv: Any, norm: Any) -> nn.Module | None:
    """Fold a norm into the convolution before it, in place; gives the activation that the norm had in it."""
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.weight.requires_grad_(False)
    conv.bias.requires_grad_(False)
    activation = getattr(norm, "act", None)
    return None if isinstance(activation, nn.Identity) else activation


def _attribute(activation: Any) -> tuple[str, list[float], str] | None:
    """What oneDNN calls an activation, with its numbers and its way of computing it."""
    name = ACTIVATIONS.get(type(activation).__name__)
    if name is None:
        return None
    numbers = [0.0, 6.0] if name == "hardtanh" else []
    return name, numbers, getattr(activation, "approximate", "none") if name == "gelu" else ""


def _replace(module: nn.Module, name: str, part: nn.Module) -> None:
    if not name:
        return
    part._forward_hooks.update(module.get_submodule(name)._forward_hooks)
    module.set_submodule(name, part)


@dataclasses.dataclass
class _Seen:
    """What one run showed."""

    order: list[str]
    runs: Counter[str]
    given: dict[str, Tensor]
    """What a module gave."""
    taken: dict[int, list[str]]
    """Which modules took a tensor, by its id."""
    reads: Counter[int]
    """How often a tensor was read, by its id."""

    def next_of(self, name: str) -> str | None:
        """The module that alone took what this one gave, and did so once."""
        given = self.given.get(name)
        if given is None or self.reads[id(given)] != 1:
            return None
        takers = [other for other in self.taken.get(id(given), []) if self.runs[other] == 1]
        return takers[0] if takers else None


class _Reads(TorchFunctionMode):
    """Counts the calls that read each tensor."""

    def __init__(self, reads: Counter[int]) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") not in METADATA:
            values = [*args, *(kwargs or {}).values()]
            values += [inner for value in values if isinstance(value, tuple | list) for inner in value]
            self.reads.update(id(value) for value in values if isinstance(value, Tensor))
        return func(*args, **(kwargs or {}))


def _watch(module: nn.Module, images: Tensor) -> _Seen:
    seen = _Seen([], Counter(), {}, {}, Counter())
    kept: list[Any] = []  # or an id would be used again

    def hook(name: str) -> Any:
        def note(part: nn.Module, given: tuple[Any, ...], output: Any) -> Any:
            seen.runs[name] += 1
            seen.order.append(name)
            if not given:
                return output
            seen.taken.setdefault(id(given[0]), []).append(name)
            if output is given[0]:  # done in place: what it gives is another value
                output = given[0].clone()
                seen.reads[id(given[0])] -= 1  # the copy's
            kept.extend((given, output))
            seen.reads[id(output)] = 0  # a tensor that is gone may have had this id
            seen.given[name] = output
            return output

        return note

    leaves = {
        name: part
        for name, part in module.named_modules()
        if _is_conv(part) or _is_norm(part) or type(part) is nn.Linear or _attribute(part)
    }
    handles = [part.register_forward_hook(hook(name), prepend=True) for name, part in leaves.items()]
    try:
        with torch.no_grad(), _Reads(seen.reads):
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    seen.order = list(dict.fromkeys(seen.order))
    return seen
