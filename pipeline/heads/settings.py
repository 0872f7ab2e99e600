"""The settings that heads learn by, as flags of stage two. Nothing here imports torch."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Annotated, Literal

from pipeline.checks import Checked, Fraction, OneOf, Range
from pipeline.heads import HEADS

Crops = Literal["center", "five", "ten", "ten-image", "full"]
CONSTRAINTS = ("anchor", "scale", "positive")
MAX_WIDTH = 65_536
OF_LEARNING = frozenset({"dropout", "loss", "localisation", "constraints"})
"""Settings that decide how a head learns, and no score of a head that has learned."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SharedSettings(Checked):
    """Settings that all heads of a sweep have in common. `HEADS` says which head reads which."""

    hidden: tuple[Annotated[int, Range(1, MAX_WIDTH)], ...] = (512,)
    """Widths of FullNet's hidden layers, one after the other; the one width of recurrent-attention."""
    dropout: Fraction = 0.0
    """Dropout after each hidden layer."""
    loss: Literal["auto", "cross-entropy", "bce", "softmax-square"] = "auto"
    """auto: cross-entropy where images have one label each, bce where they have several. bce: binary
    cross-entropy of each class. softmax-square: squared error of the softmax to the labels divided by their
    number."""
    crop_cells: Annotated[int, Range(1, 1024)] | None = None
    """Side of a crop, in cells of the map (default: 0.6 of each side of the map: 3 of 5, 8 of 14)."""
    csra_lambda: Annotated[float, Range(0, 1000)] = 0.3
    """csra: weight of the attention beside the mean of the map."""
    csra_temperature: tuple[Annotated[float, Range(0, 99, above=True)], ...] = (1.0,)
    """csra: sharpness of the attention, 99 for the maximum. Several make a head each; their scores are
    summed."""
    steps: Annotated[int, Range(1, 100)] = 5
    """recurrent-attention: how many regions it looks at, one after the other, after the whole map."""
    region_cells: Annotated[int, Range(1, 1024)] | None = None
    """recurrent-attention: side of the grid sampled in each region, in cells (default: half the crop's side,
    rounded up)."""
    region_start: Literal["anchors", "whole", "fixed"] = "anchors"
    """recurrent-attention: where the regions are before training. anchors: half the map's side, each at its
    anchor; whole: the whole map, as in the paper; fixed: at the anchors for good, to see what looking is
    worth."""
    localisation: Annotated[float, Range(0, 1000)] = 0.1
    """recurrent-attention: weight of the constraints on the regions."""
    constraints: tuple[Annotated[str, OneOf(CONSTRAINTS)], ...] = CONSTRAINTS
    """recurrent-attention: which constraints. anchor pulls each region towards a place of its own, scale
    keeps regions small, positive keeps them from being mirrored or empty."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadSettings(SharedSettings):
    """All settings that decide a single head's shape and loss; see `pipeline.heads.base.HeadSpec`."""

    crops: Crops = "ten"
    """Which crops of a map the head looks at; see `pipeline.maps.crops`."""


def unread_by(heads: Collection[str]) -> set[str]:
    """The settings that some head reads, but none of these; unknown heads read nothing."""
    readers = {name for name in HEADS if name in heads}
    return set().union(*(i.reads for i in HEADS.values())).difference(*(HEADS[n].reads for n in readers))


def refuse_unread(config: Checked, heads: Sequence[str]) -> None:
    """Raises: ConfigError when a field isn't left at its default, and none of these heads reads it."""
    for field in dataclasses.fields(config):
        readers = [name for name, info in HEADS.items() if field.name in info.reads]
        if readers and getattr(config, field.name) != field.default and not {*readers} & {*heads}:
            readers_of, found = ", ".join(readers), ", ".join(heads)
            raise config.refused(field.name, f"has no effect on {found}, only on {readers_of}; leave it out")
