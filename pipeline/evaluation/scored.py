"""A run that was scored."""

from pathlib import Path
from typing import Any, NamedTuple

from pipeline.evaluation.predict import Predictions


class Scored(NamedTuple):
    """A head's folder, the folder that its evaluation went to, and what is there."""

    folder: Path
    out: Path
    predictions: Predictions
    scores: dict[str, Any]
    """metrics.json."""

    @property
    def score(self) -> float:
        """In per cent: top-1, or mAP where an image has several labels."""
        return self.scores["map" if self.predictions.multi_label else "top1"]
