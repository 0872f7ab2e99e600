"""The score by which validation chooses: top-1, or mAP where an image has several labels."""

from typing import Any, NamedTuple

from pipeline.datasets.holdout import Labels


class Score(NamedTuple):
    """The names of a validation score, in files (values in per cent) and in print."""

    key: str
    title: str


TOP1, MAP = Score("val_top1", "top-1"), Score("val_map", "mAP")


def score_of(labels: Labels) -> Score:
    """The score that suits labels: top-1 for (N,), mAP for (N, K)."""
    return TOP1 if labels.ndim == 1 else MAP


def score_in(entry: dict[str, Any]) -> Score:
    """The score that a summary, or a line of a leaderboard, holds."""
    return MAP if MAP.key in entry else TOP1
