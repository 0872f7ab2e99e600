"""The layers of a network, the shape of what each gives, and a module that runs as far as some of them."""

import dataclasses
import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.trunks.outputs import to_map

Shape = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Layer:
    """A part of a network that gives maps."""

    name: str
    """Its name in the network; empty for the whole of it."""
    shape: Shape
    """(C, H, W)."""
    used: frozenset[str]
    """Names of the weights that are needed up to here."""
    parameters: int
    """How many numbers these are."""


class Reached(Exception):  # noqa: N818 - no error: the rest of the network is not needed
    """The last layer that was asked for has given its maps."""


def layers_of(module: nn.Module, image_px: int, prefix_tokens: int) -> list[Layer]:
    """Every layer that gives maps of an image of this side, in the order in which they are done.

    Layers that run several times are left out: of which time it would be is not in a name.

    Raises: whatever the network does when it can't take an image of this side.
    """
    sizes = {id(tensor): (name, tensor.numel()) for name, tensor in _tensors(module)}
    found: list[Layer] = []
    runs: dict[str, int] = {}
    touched = _Touched(sizes)

    def note(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            runs[name] = runs.get(name, 0) + 1
            maps = to_map(output, prefix_tokens)
            if maps is None or len(maps) != 1:  # windows of a map count as images
                return
            channels, height, width = maps.shape[1:]
            used = dict(sizes[i] for i in touched.seen)
            found.append(Layer(name, (channels, height, width), frozenset(used), sum(used.values())))

        return hook

    handles = [part.register_forward_hook(note(name)) for name, part in module.named_modules()]
    try:
        with torch.no_grad(), touched:
            module(torch.zeros(1, 3, image_px, image_px))
    finally:
        for handle in handles:
            handle.remove()
    return [layer for layer in found if runs[layer.name] == 1]


def default_layer(layers: Iterable[Layer], classifier: tuple[str, ...]) -> Layer | None:
    """The last layer with more than one cell that isn't in the classifier; failing that, the last one. Of
    layers one in another that end with the same maps it is the outermost."""
    known = [
        layer
        for layer in layers
        if not any(_within(layer.name, head) for head in classifier) and (layer.name or not classifier)
    ]
    spatial = [layer for layer in known if layer.shape[1] > 1] or known
    return spatial[-1] if spatial else None


def _within(name: str, other: str) -> bool:
    return name == other or name.startswith(f"{other}.")


def drop_unused(module: nn.Module, used: Iterable[str]) -> None:
    """Take parts of a network out, in place, none of whose weights are among those used."""
    used = set(used)
    for name, part in list(module.named_modules()):
        own = [n for n, _ in _tensors(part)]
        if name and own and not any(f"{name}.{n}" in used for n in own) and _has(module, name):
            module.set_submodule(name, nn.Identity())


def _has(module: nn.Module, name: str) -> bool:
    try:
        module.get_submodule(name)
    except AttributeError:  # a part of one that was taken out
        return False
    return True


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    return [*module.named_parameters(), *module.named_buffers()]


class _Touched(TorchFunctionMode):
    """Notes which of some tensors are read, by their ids."""

    def __init__(self, known: Iterable[int]) -> None:
        super().__init__()
        self.known, self.seen = frozenset(known), set[int]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._look([args, kwargs])
        return func(*args, **(kwargs or {}))

    def _look(self, values: Any) -> None:
        if isinstance(values, Tensor):
            if id(values) in self.known:
                self.seen.add(id(values))
        elif isinstance(values, tuple | list):
            for value in values:
                self._look(value)
        elif isinstance(values, dict):
            self._look(list(values.values()))


class _Run(threading.local):
    """What the layers gave in the run under way of each thread; None while there is none."""

    maps: dict[str, Tensor] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Run":
        memo[id(self)] = copy = _Run()
        return copy


@dataclasses.dataclass(eq=False)
class _Tap:
    """A hook that keeps what a layer gives, and ends the run when all have been kept."""

    name: str
    run: _Run
    count: int
    prefix_tokens: int

    def __call__(self, _: nn.Module, __: Any, output: Any) -> None:
        if self.run.maps is None:
            return  # the network runs for other layers
        maps = to_map(output, self.prefix_tokens)
        if maps is None:
            raise RuntimeError(f"layer {self.name} gave no maps")
        # An export follows calls to their ends: it runs through what is left, and drops it afterwards.
        is_end = len(self.run.maps) == self.count - 1 and not torch.compiler.is_exporting()
        self.run.maps[self.name] = maps if is_end else maps.clone()  # the next may work in place
        if is_end:
            raise Reached


class UpTo(nn.Module):
    """images (B, 3, S, S) → the maps (B, C, H, W) of layers of a network, in one run that goes no further."""

    def __init__(self, network: nn.Module, layers: tuple[str, ...], prefix_tokens: int) -> None:
        super().__init__()
        self.network, self.layers, self.prefix_tokens = network, layers, prefix_tokens
        self._current = _Run()
        for name in layers:
            tap = _Tap(name, self._current, len(layers), prefix_tokens)
            network.get_submodule(name).register_forward_hook(tap)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        self._current.maps = {}
        try:
            self.network(images)
        except Reached:
            pass
        finally:
            maps, self._current.maps = self._current.maps, None
        found = tuple(maps[name] for name in self.layers)
        return found[0] if len(found) == 1 else found
