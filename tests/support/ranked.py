"""Scores and labels of several classes per image, drawn at random."""

import numpy as np
from numpy.typing import NDArray

Data = tuple[NDArray[np.float32], NDArray[np.int8]]


def draw(seed: int, images: int = 200, classes: int = 7, *, ties: bool, masked: bool) -> Data:
    """Scores that go with the labels; with `ties` only a few values, with `masked` a tenth not counted."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, classes)) < rng.uniform(0.02, 0.6, classes)).astype(np.int8)
    scores = rng.normal(size=labels.shape) + 1.5 * labels - 1
    if ties:
        scores = np.round(scores)
    if masked:
        labels[rng.random(labels.shape) < 0.1] = -1
    labels[0] = 1
    return scores.astype(np.float32), labels
