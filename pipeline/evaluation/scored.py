"""A run that was scored, and its predictions."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import Paths
from pipeline.files import replacing
from pipeline.metrics.single_label import ranks


class Predictions(NamedTuple):
    """N test images under one head."""

    logits: NDArray[np.float32]  # (N, K)
    labels: NDArray[np.integer]  # (N,) positions in `classes`; multi-label (N, K): 1, 0, or -1 not counted
    paths: Paths  # N, of the images, relative to their dataset
    classes: NDArray[np.str_]  # (K,)
    contents: NDArray[np.void]  # (N,) 16 bytes, equal where images are the same

    @property
    def multi_label(self) -> bool:
        """Whether an image can have several of the classes."""
        return self.labels.ndim == 2

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(N,) whether the label has the highest logit; among equal ones the first counts, as in `metrics`.

        Raises: ValueError when images have several labels, and so no answer that is right or wrong.
        """
        if self.multi_label:
            raise ValueError("images with several labels are not right or wrong as a whole")
        return ranks(self.logits, self.labels) == 0

    def save(self, path: Path, cache: Mapping[str, str]) -> None:
        """Write an .npz file, whole or not at all, that numpy.load reads without pickles. Paths are UTF-8, a
        zero byte behind each; `cache` says which one the images are from.
        """
        paths = np.frombuffer(self.paths.data, np.uint8)
        digests = self.contents.view(np.uint8).reshape(-1, 16)
        arrays = {"logits": self.logits, "labels": self.labels, "classes": self.classes}
        facts = {f"cache_{name}": np.array(value) for name, value in cache.items()}
        with replacing(path) as part, part.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays, paths=paths, image_digests=digests, **facts)


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
