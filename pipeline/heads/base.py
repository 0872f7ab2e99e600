"""The interface of heads. To add one: a file here with a subclass of `Head`, and an entry in `HEADS`.

A `Head` is a *stack* of M heads of one shape that train at once, in one pass over the data: they differ in
the seed of their initial weights and in the optimizer's settings. Every parameter has a leading dimension M.

A subclass needs `__init__(spec)`, `prepare` and `forward`; `views` and `losses` where the defaults don't fit.
A subclass of `FittedHead` has `fit` too, and is computed from all maps at once instead of trained in steps.

Shapes: M heads, B images, V views, K classes, C×H×W cells of a map.
"""

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.heads.losses import kind_of_loss, mean_loss
from pipeline.heads.plain import Plain
from pipeline.heads.settings import HeadSettings
from pipeline.maps.crops import Crop, crops_of, usual_crop


class HeadSpec(NamedTuple):
    """Everything that a head's shape and initial weights depend on."""

    settings: HeadSettings
    map_shape: tuple[int, int, int]  # (C, H, W)
    classes: int
    seeds: Sequence[int]  # one per head of the stack
    examples: int = 0  # maps in the training part, every drawn view of an image
    multi_label: bool = False  # labels are (B, K): 1 present, 0 absent, -1 not counted

    def crops(self) -> list[Crop]:
        """The crops to look at, in every view. Raises: ConfigError when they are larger than the map."""
        _, height, width = self.map_shape
        side = self.settings.crop_cells
        cells = (side, side) if side else usual_crop((height, width))
        return crops_of(self.settings.crops, (height, width), cells)


class Head(nn.Module):
    """M heads as one module: (B, V, C, H, W) maps → `prepare` → `forward` → (M, B, K) logits."""

    views: int = 1
    """Number of views of an image that `prepare` looks at; the first of them is the image as it is."""
    maps_per_image: int = 1
    """Number of maps, or crops with the area of one, that a forward pass holds for each image."""
    recordable: bool = True
    """Whether a step can be recorded on a GPU and replayed: not if it draws random numbers."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.seeds = tuple(spec.seeds)
        self.loss = kind_of_loss(spec.settings.loss, spec.multi_label)
        self._generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def share_of(self, maps: int) -> int:
        """The number of images at which the head holds about this many maps."""
        return max(1, maps // self.maps_per_image)

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        """Reduce maps to the head's inputs (B, ...), same dtype: pooling, cropping, folding, whatever has no
        parameters, so that it is done once for all epochs. Must treat each image on its own."""
        raise NotImplementedError

    def forward(self, inputs: Tensor) -> Tensor:
        """Score inputs (B, ...) from `prepare`: logits (M, B, K)."""
        raise NotImplementedError

    def losses(self, inputs: Tensor, labels: Tensor, own_MB: Tensor | None = None) -> Tensor:
        """The loss of each head (M,), averaged over the batch, or over the images of it that are the head's
        own to learn from. labels: (B,) int64 or (B, K) int8."""
        return mean_loss(self(inputs), labels, self.loss, own_MB)

    def plain(self) -> nn.Module:
        """The only head of the stack as a module from normalised maps (B, V, C, H, W) to logits (B, K), for
        an exporter: `pipeline.heads.plain` has those of heads that can't be recorded as they are."""
        return Plain(self, lambda maps: self(self.prepare(maps)))

    def some(self, places: slice) -> Self:
        """Some heads of the stack as a stack of their own, on the same memory, to score with."""
        stack = copy.copy(self)
        stack.seeds, stack._generators = self.seeds[places], self._generators[places]
        stack._parameters = {
            name: nn.Parameter(p.detach()[places], requires_grad=False)
            for name, p in self.named_parameters(recurse=False)
        }
        return stack

    def new_weight(self, *shape: int, std: float) -> nn.Parameter:
        """A parameter (M, *shape), normally distributed; each head draws from its own seed."""
        return nn.Parameter(torch.stack([torch.randn(shape, generator=g) * std for g in self._generators]))

    def new_bias(self, *shape: int) -> nn.Parameter:
        """A parameter (M, *shape) of zeros."""
        return nn.Parameter(torch.zeros(len(self.seeds), *shape))

    def start_epoch(self, epoch: int) -> None:
        """Seed dropout by (seed, epoch), so that a resumed run draws the same masks."""
        device = next(self.parameters()).device  # drawn there: masks are larger than batches
        # torch's generators look at 32 bits of a seed only
        seeds = [int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]) for seed in self.seeds]
        self._generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]

    def random_states(self) -> list[Tensor]:
        """Where the draws of each head's dropout are, if there is one."""
        return [] if self.recordable else [generator.get_state() for generator in self._generators]

    def set_random_states(self, states: list[Tensor]) -> None:
        """Go back to where they were, in the same epoch."""
        for generator, state in zip(self._generators, states, strict=bool(states)):
            generator.set_state(state)

    def dropout(self, x_MBh: Tensor, probability: float) -> Tensor:
        """Drop out values; each head draws its own mask. Nothing is dropped outside of training."""
        if not (self.training and probability):
            return x_MBh
        shape = x_MBh.shape[1:]
        draws = [torch.rand(shape, generator=g, device=g.device) for g in self._generators]
        kept = torch.stack(draws) >= probability
        return x_MBh * kept.to(x_MBh.device, x_MBh.dtype).div_(1 - probability)


class Examples(NamedTuple):
    """Every map of the training part, on the device."""

    inputs: Tensor  # (N, ...) from `prepare`
    labels: Tensor  # (N,) int64 or (N, K) int8


class FittedHead(Head):
    """A head without steps, learning rate or seed. Its parameters and buffers are (1, ...) until `fit`."""

    def fit(self, train: Examples, choose: bool) -> list[dict[str, Any]]:
        """Become a stack of M heads, computed in M settings from the training part; gives the settings.

        With `choose` these are all settings worth trying, for validation to choose from, else one. A tensor
        that doesn't depend on the setting stays (1, ...).
        """
        raise NotImplementedError
