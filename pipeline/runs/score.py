"""The score by which validation chooses: top-1, or mAP where an image has several labels; and how sure it is.

Without numpy, so that a list of runs is there at once.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pipeline.datasets.holdout import Labels
    from pipeline.runs.draws import Draws

FEW = 100
"""Validation images below which a warning is due."""


class Score(NamedTuple):
    """The names of a validation score, in files (values in per cent) and in print."""

    key: str
    title: str

    def figures(self, value: float, images: int = 0, draws_R: "Draws | None" = None) -> dict[str, Any]:
        """A score with the ends of its 95 % interval and the number of images; the ends are None where there
        are no images, or the head diverged and has no score."""
        low = high = None
        if draws_R is not None and math.isfinite(value):
            from pipeline.metrics.intervals import middle, wilson

            low, high = wilson(value, images) if self.key == TOP1.key else middle(draws_R)
        score = value if math.isfinite(value) else None
        return {self.key: score, f"{self.key}_low": low, f"{self.key}_high": high, "val_images": images}

    def in_words(self, entry: dict[str, Any]) -> str:
        """The score in a summary or a leaderboard: top-1 87.50 % [69.00, 95.66]."""
        value, low, high = (entry.get(self.key + end) for end in ("", "_low", "_high"))
        return f"{self.title} {value:.2f} %" + ("" if low is None else f" [{low:.2f}, {high:.2f}]")


TOP1, MAP = Score("val_top1", "top-1"), Score("val_map", "mAP")


def score_of(labels: "Labels") -> Score:
    """The score that suits labels: top-1 for (N,), mAP for (N, K)."""
    return TOP1 if labels.ndim == 1 else MAP


def score_in(entry: dict[str, Any]) -> Score:
    """The score that a summary, or a line of a leaderboard, holds."""
    return MAP if MAP.key in entry else TOP1


def few(entry: dict[str, Any]) -> list[str]:
    """A line of warning where an entry's validation images are so few that each counts for over a point."""
    images = entry["val_images"]
    if not 0 < images < FEW:
        return []
    more = (
        "more images" if entry.get("folds") else "--folds 5 and another --out, which validates on all images"
    )
    return [f"only {images} validation images: each counts for {100 / images:.1f} points; give {more}"]
