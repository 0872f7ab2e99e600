"""Which labels are probably wrong: confident learning (Northcutt, Jiang, Chuang, JAIR 2021).

A class's threshold is the mean probability of this class over the images labelled so. An image whose
probability of another class reaches that class's threshold is confidently of the other class. Such images
are counted for each pair of label and other class, as shares of all images with this label. As many labels
of each pair are issues: those where the other class is ahead by the most, unless the label is the most
probable class all the same (pruning by noise rate). Probabilities must come from a model that didn't learn
from the image. Where an image may have several labels, each class is such a problem of its own, of two
classes: present and absent.

Shapes: N images, K classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

EPSILON = 1e-6
"""How far a probability may be off and still count as equal."""
WORST = 0.8
"""Weight of the next lower score in the score of an image with several labels: mostly its lowest counts."""


class LabelQuality(NamedTuple):
    """What is to be thought of each image's label."""

    score: NDArray[np.float64]
    """(N,) from 0, certainly wrong, to 1: the probability of the label. Several labels: the moving average of
    the probabilities of each class's entry, from the highest to the lowest."""
    is_issue: NDArray[np.bool_]
    """(N,)"""
    suggested: NDArray[np.integer]
    """(N,) the most probable other class; several labels: (N, K) the labels with every issue turned round."""

    @property
    def order(self) -> NDArray[np.intp]:
        """(N,) the images with issues first, each of the two by score, the lowest first."""
        return np.lexsort([self.score, ~self.is_issue])


def label_quality(probabilities_NK: NDArray[np.floating], labels: NDArray[np.integer]) -> LabelQuality:
    """Judge labels (N,), or (N, K) of 1, 0 and -1, not counted, by probabilities of at least two classes, or
    of any number where an image may have several."""
    probabilities_NK = probabilities_NK.astype(np.float64)
    if labels.ndim == 1:
        return _of_one_label(probabilities_NK, labels)
    entries = np.ones(labels.shape)
    issues = np.zeros(labels.shape, np.bool_)
    for k in range(labels.shape[1]):
        rows = np.flatnonzero(labels[:, k] >= 0)
        present = probabilities_NK[rows, k]
        found = _of_one_label(np.stack([1 - present, present], 1), labels[rows, k].astype(np.int64))
        issues[rows, k], entries[rows, k] = found.is_issue, found.score
    suggested = np.where(issues, 1 - labels, labels)
    return LabelQuality(_average(entries), np.asarray(issues.any(1)), suggested)


def _of_one_label(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.integer]) -> LabelQuality:
    own = probabilities_NK[np.arange(len(labels_N)), labels_N]
    others = probabilities_NK.copy()
    others[np.arange(len(labels_N)), labels_N] = -np.inf
    suggested = others.argmax(1)
    highest = others[np.arange(len(labels_N)), suggested]
    is_issue = np.zeros(len(labels_N), np.bool_)
    ends = np.cumsum(np.bincount(labels_N, minlength=probabilities_NK.shape[1]))
    rows_of = np.split(np.argsort(labels_N, kind="stable"), ends[:-1])
    for label, other, count in zip(*_noise(probabilities_NK, labels_N), strict=True):
        rows = rows_of[label]
        lead = probabilities_NK[rows, other] - own[rows]
        is_issue[rows[np.argsort(-lead, kind="stable")[:count]]] = True
    return LabelQuality(own, is_issue & (highest > own + EPSILON), suggested)


def _noise(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.integer]) -> Sequence[list[int]]:
    """Label, other class, and how many images with this label are really of the other, for each pair that
    there is. Each class keeps an image."""
    classes = probabilities_NK.shape[1]
    is_above = probabilities_NK >= thresholds(probabilities_NK, labels_N) - EPSILON
    is_sure = is_above.any(1)
    sure = np.where(is_above.sum(1) == 1, is_above.argmax(1), probabilities_NK.argmax(1))
    joint = np.zeros((classes, classes))
    np.add.at(joint, (labels_N[is_sure], sure[is_sure]), 1)
    np.fill_diagonal(joint, joint.diagonal().clip(1))
    joint = joint / joint.sum(1, keepdims=True) * np.bincount(labels_N, minlength=classes)[:, None]
    counts = _rounded(joint)
    lacking = (1 - counts.diagonal()).clip(0) / np.maximum(np.count_nonzero(counts, axis=1) - 1, 1)
    counts = (counts - lacking[:, None]).clip(0).astype(np.int64)
    np.fill_diagonal(counts, 0)
    pairs = np.nonzero(counts > 0)
    return [*(place.tolist() for place in pairs), counts[pairs].tolist()]


def _rounded(counts_KK: NDArray[np.floating]) -> NDArray[np.int64]:
    """The nearest integers of which each row has the same sum."""
    found = counts_KK.round()
    for before, row in zip(counts_KK, found, strict=True):
        lack = round(float(before.sum() - row.sum()))
        order = np.argsort(before - row)
        row[order[len(order) - lack :] if lack > 0 else order[:-lack]] += np.sign(lack)
    return found.astype(np.int64)


def thresholds(probabilities_NK: NDArray[np.float64], labels_N: NDArray[np.integer]) -> NDArray[np.float64]:
    """(K,) the mean probability of each class over the images labelled so; infinite where there are none."""
    classes = probabilities_NK.shape[1]
    own = probabilities_NK[np.arange(len(labels_N)), labels_N]
    images = np.bincount(labels_N, minlength=classes)
    total = np.bincount(labels_N, own, minlength=classes)
    means = np.divide(total, images, out=np.full(classes, np.inf), where=images > 0)
    return means.clip(2 * EPSILON)


def _average(entries_NK: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) the moving average of each row's scores, from the highest to the lowest."""
    average, *rest = np.sort(entries_NK, axis=1).T[::-1]
    for lower in rest:
        average = WORST * lower + (1 - WORST) * average
    return average
