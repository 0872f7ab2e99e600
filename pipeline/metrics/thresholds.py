"""The probability from which a label counts as present, chosen for each class by F1 on some images.

Legend: N images, K classes.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.multilabel import pieces
from pipeline.metrics.ranking import rank


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of logits; no logit is too large for it."""
    return 0.5 + 0.5 * np.tanh(0.5 * logits)


def best_thresholds(logits_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]) -> NDArray[np.float64]:
    """(K,) sigmoids of the logits with the highest F1 = 2·right / (predicted + present), each halfway between
    the lowest probability above it and the highest below. Of equal F1 the lowest threshold counts.

    labels: 1 present, 0 absent, -1 not counted. NaN for a class without present labels.
    """
    found = np.full(labels_NK.shape[1], np.nan)
    for columns in pieces(labels_NK):
        logits, labels = logits_NK[:, columns].astype(np.float64), labels_NK[:, columns]
        ranking = rank(logits, labels)
        right = np.cumsum(ranking.present, axis=1)
        predicted = np.cumsum(ranking.counted, axis=1)
        f1 = 2 * right / np.maximum(predicted + right[:, -1:], 1)
        f1[ranking.last != np.arange(len(labels))] = -1  # no threshold parts equal scores
        last = len(labels) - 1 - f1[:, ::-1].argmax(1)
        ordered = np.take_along_axis(sigmoid(logits.T), ranking.order, axis=1)
        ordered = np.pad(ordered, ((0, 0), (0, 1)))  # the lowest threshold is between a probability and 0
        classes = np.arange(len(last))
        halfway = (ordered[classes, last] + ordered[classes, last + 1]) / 2
        found[columns] = np.where(right[:, -1] > 0, halfway, np.nan)
    return found
