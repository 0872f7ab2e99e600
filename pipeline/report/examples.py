"""Which test images to look at: the most confident mistakes, and the least confident hits.

An image with one label is right or wrong as a whole. Where it may have several, each label is: the mistakes
are the labels whose probability is farthest from the truth, the hits the present ones with the lowest
probability that still counts as present.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.scored import Predictions
from pipeline.report.calibration import probabilities

TOP = 5
"""Classes of an image that are shown with their probabilities."""


class Example(NamedTuple):
    """A test image, and what was said of it."""

    row: int
    path: str
    words: tuple[str, ...]
    """Which class it was taken for, or which of its labels is meant, as alternating words and class names."""
    labels: tuple[str, ...]
    top: tuple[tuple[str, float, bool], ...]
    """The most probable classes, their probabilities in per cent, and whether each is a label."""


class Examples(NamedTuple):
    """Test images that are worth a look."""

    mistakes: list[Example]
    hits: list[Example]


def examples(kept: Predictions, thresholds_K: NDArray[np.float64], count: int) -> Examples:
    """The `count` most confident mistakes, and half as many hits, the least confident first.

    thresholds_K: from which probability each class counts as present; only where there are several labels.
    """
    shares = probabilities(kept.logits, kept.multi_label)
    pick = _several if kept.multi_label else _single
    return pick(kept, shares, thresholds_K, count)


def _single(kept: Predictions, shares: NDArray[np.float64], _: object, count: int) -> Examples:
    rows, predicted, right = np.arange(len(shares)), kept.logits.argmax(1), kept.correct
    confidence = shares[rows, predicted]
    order = np.argsort(-confidence, kind="stable")
    wrong, hits = order[~right[order]][:count], order[right[order]][::-1][: count // 2]

    def made(row: int) -> Example:
        own, taken = str(kept.classes[kept.labels[row]]), str(kept.classes[predicted[row]])
        words = ("taken for ", taken) if taken != own else ("rightly taken for ", own)
        return _example(kept, shares, row, (*words, f", {100 * confidence[row]:.1f} % sure"), (own,))

    return Examples(*([made(int(row)) for row in chosen] for chosen in (wrong, hits)))


def _several(
    kept: Predictions, shares: NDArray[np.float64], thresholds_K: NDArray[np.float64], count: int
) -> Examples:
    present, counted = kept.labels == 1, kept.labels >= 0
    said = shares >= thresholds_K
    off = np.where(counted & (said != present), np.abs(shares - present), -1.0)
    near = np.where(counted & said & present, 1 - shares, -1.0)

    def made(row: int, k: int) -> Example:
        word = ("found " if said[row, k] else "missed ") if present[row, k] else "wrongly "
        words = (word, str(kept.classes[k]), f", {100 * shares[row, k]:.1f} % sure")
        labels = tuple(str(kept.classes[i]) for i in np.flatnonzero(present[row]))
        return _example(kept, shares, row, words, labels)

    chosen = (_worst(off, count), _worst(near, count // 2))
    return Examples(*([made(*cell) for cell in cells] for cells in chosen))


def _worst(values_NK: NDArray[np.float64], count: int) -> list[tuple[int, int]]:
    """The cells of the highest values, at most one in a row, none below zero."""
    columns = values_NK.argmax(1)
    best = values_NK.max(1)
    order = np.argsort(-best, kind="stable")[:count]
    return [(int(row), int(columns[row])) for row in order if best[row] >= 0]


def _example(
    kept: Predictions,
    shares: NDArray[np.float64],
    row: int,
    words: tuple[str, ...],
    labels: tuple[str, ...],
) -> Example:
    order = np.argsort(-shares[row], kind="stable")[:TOP].tolist()
    names = [str(kept.classes[k]) for k in order]
    top = [(name, 100 * float(shares[row, k]), name in labels) for name, k in zip(names, order, strict=True)]
    return Example(row, kept.paths[row], words, labels, tuple(top))
