"""What single heads can be told, and how heads learn: the part of stage two's flags that heads read.

Nothing here imports torch.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Literal

from pipeline.checks import Checked, Fraction, OneOf, Range, flag
from pipeline.errors import ConfigError
from pipeline.heads import READ

CONSTRAINTS = ("anchor", "scale", "positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeadSettings(Checked):
    """Every head reads what concerns it (`pipeline.heads.READ`), and no other flag matters to it."""

    loss: Literal["auto", "cross-entropy", "bce", "softmax-square"] = "auto"
    """bce: binary cross-entropy of each class. softmax-square: squared error of the softmax to the labels
    divided by their number [cross-entropy where images have one label each, bce where they have several]."""
    optimizer: Literal["auto", "sgd", "adam"] = "auto"
    """sgd has Nesterov momentum, adam decoupled weight decay [adam for recurrent-attention, else sgd]."""
    dropout: Fraction = 0.0
    """After each hidden layer."""
    crop_cells: Annotated[int, Range(0, 1024)] = 0
    """Side of a crop, in cells of the map [3 for fullnet, for others 2 cells less than the map]."""
    csra_lambda: Annotated[float, Range(0, 1000)] = 0.1
    """csra: weight of the attention beside the mean of the map."""
    csra_temperature: tuple[Annotated[float, Range(0, 99, above=True)], ...] = (1.0,)
    """csra: sharpness of the attention, 99 for the maximum. Of several, each is a head; their scores are
    summed."""
    steps: Annotated[int, Range(1, 100)] = 5
    """recurrent-attention: regions it looks at, one after the other, after the whole map."""
    region_cells: Annotated[int, Range(0, 1024)] = 0
    """recurrent-attention: side of what is sampled of each region, in cells [half the crop's side, rounded
    up]."""
    region_start: Literal["anchors", "whole", "fixed"] = "anchors"
    """recurrent-attention: regions before any training. anchors: half the map's side, each at its anchor;
    whole: the whole map, as in the paper; fixed: at the anchors for good, to see what looking is worth."""
    localisation: Annotated[float, Range(0, 1000)] = 0.1
    """recurrent-attention: weight of the constraints on the regions."""
    constraints: tuple[Annotated[str, OneOf(CONSTRAINTS)], ...] = CONSTRAINTS
    """recurrent-attention: which constraints. anchor pulls each region towards a place of its own, scale
    keeps regions small, positive keeps them from being mirrored or empty."""


def refuse_unread(config: Checked, heads: Sequence[str]) -> None:
    """Raises: ConfigError when a flag isn't left at its default, and none of these heads reads it."""
    for field in dataclasses.fields(config):
        readers = [head for head, names in READ.items() if field.name in names]
        if readers and getattr(config, field.name) != field.default and not {*readers} & {*heads}:
            raise ConfigError(
                f"{flag(field.name)}: has no effect on {', '.join(heads)}, only on {', '.join(readers)}; "
                "leave it out"
            )
