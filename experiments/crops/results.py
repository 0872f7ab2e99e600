"""What the ablation finds: variants, their outcomes, and ten-crop's differences to the other heads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.crops.caches import Maps
from experiments.crops.field import Field
from pipeline.metrics.bootstrap import Interval, top1_interval
from pipeline.runs.stack import Setting

AGAINST = ("center", "five", "full", "linear", "logistic")
"""The heads that ten-crop is compared with, on the same test images."""
LABEL = {"same": "(a) same classes", "transfer": "(b) other classes", "digits": "(c) digits", "trunk": "(d)"}


class Variant(NamedTuple):
    """A head on the maps of some images."""

    maps: Maps
    per_class: int
    """Labelled images per class that were asked for; 0: all."""
    head: str
    images: int
    """Labelled images, validation part included."""
    images_per_class: int

    @property
    def title(self) -> str:
        """The regime, and the trunk where it has several."""
        return " ".join(filter(None, (LABEL[self.maps.regime], self.maps.trunk)))


class Result(NamedTuple):
    """A variant's outcome."""

    variant: Variant
    setting: Setting | None
    """The one that validation chose; None for logistic, which has its own."""
    correct: list[NDArray[np.bool_]]
    """Which test images are right, (N,) for each seed."""

    @property
    def top1(self) -> list[float]:
        """Per cent, one per seed."""
        return [100 * float(seed.mean()) for seed in self.correct]


Line = dict[str, Result]
"""The results of a trunk and a number of images, by head."""


def by_images(results: Sequence[Result]) -> dict[tuple[str, int], Line]:
    """The results of each trunk and number of images, by head."""
    lines: dict[tuple[str, int], Line] = {}
    for r in results:
        lines.setdefault((r.variant.title, r.variant.per_class), {})[r.variant.head] = r
    return lines


def field_of(line: Line) -> Field | None:
    """What a cell of the maps sees of the picture, where that was measured."""
    return next(iter(line.values())).variant.maps.field


def ten_minus(line: Line, other: str) -> Interval:
    """Ten-crop minus another head in percentage points, with the 95 % interval over test images."""
    return top1_interval(np.stack(line[other].correct), np.stack(line["ten"].correct))
