"""Metrics of a classifier from its logits: accuracy, likelihood, calibration, per class.

    logits_NK   float (N, K), one score per image and class      labels_N   int64 (N,), 0..K-1

Among equal logits the class with the lower index comes first, in top-1 and in top-5, so a head that says the
same of every class scores the share of class 0. Everything is computed in float64.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from pipeline.errors import RunError

TOP = 5
BINS = 15

UNITS = {
    "images": "count",
    "top1": "per cent of the images whose highest logit is the label's",
    "top5": "per cent of the images whose label is among the 5 highest logits; null with 5 classes or fewer",
    "nll": "nats per image: mean negative log-likelihood of the label",
    "ece": "per cent: mean |accuracy - confidence| of the predicted class over 15 equal bins, by size",
    "mean_class_accuracy": "per cent: mean of per_class over the classes that occur",
    "per_class": "per cent of each class's images that are classified right; null for a class without images",
    "confusion": "counts; row: label, column: prediction, in the order of classes",
}


def score(
    logits_NK: NDArray[np.floating], labels_N: NDArray[np.integer], classes: tuple[str, ...]
) -> dict[str, Any]:
    """All metrics as JSON types; `UNITS` says what each one is.

    Raises: RunError when there are no images; ValueError on shapes, labels or logits that are not finite.
    """
    if logits_NK.shape != (len(labels_N), len(classes)):
        raise ValueError(f"logits {logits_NK.shape} for {len(labels_N)} labels and {len(classes)} classes")
    if not len(labels_N):
        raise RunError("no test images to score")
    if labels_N.min() < 0 or labels_N.max() >= len(classes):
        raise ValueError(f"labels from {labels_N.min()} to {labels_N.max()} for {len(classes)} classes")
    if not np.isfinite(logits_NK).all():
        raise ValueError("logits that are not finite")
    logits, labels = torch.from_numpy(logits_NK).double(), torch.from_numpy(labels_N)
    rank_N, predicted_N = ranks(logits_NK, labels_N), logits_NK.argmax(1)
    confusion_KK = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion_KK, (labels_N, predicted_N), 1)
    occurring = confusion_KK.sum(1) > 0
    per_class = 100 * confusion_KK.diagonal()[occurring] / confusion_KK.sum(1)[occurring]
    accuracies = dict(zip(np.array(classes)[occurring].tolist(), per_class.tolist(), strict=True))
    confidence_N = logits.softmax(1).amax(1).numpy()
    return {
        "images": len(labels_N),
        "top1": 100 * float(np.mean(rank_N < 1)),
        "top5": 100 * float(np.mean(rank_N < TOP)) if len(classes) > TOP else None,
        "nll": F.cross_entropy(logits, labels).item(),
        "ece": calibration_error(confidence_N, predicted_N == labels_N),
        "mean_class_accuracy": float(per_class.mean()),
        "per_class": {name: accuracies.get(name) for name in classes},
        "confusion": confusion_KK.tolist(),
    }


def ranks(logits_NK: NDArray[np.floating], labels_N: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the classes that come before the label's, (N,): 0 is a right answer."""
    own_N1 = np.take_along_axis(logits_NK, labels_N[:, None], axis=1)
    earlier_NK = np.arange(logits_NK.shape[1]) < labels_N[:, None]
    return ((logits_NK > own_N1) | ((logits_NK == own_N1) & earlier_NK)).sum(1)


def calibration_error(confidence_N: NDArray[np.float64], right_N: NDArray[np.bool_]) -> float:
    """Expected calibration error in per cent: |accuracy - mean confidence| over 15 equal bins, by their size.

    A bin has its lower end, but not its upper one, except for the last, which has both.

    Args:
        confidence_N: the predicted class's probability.
        right_N: whether that class is the label.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, arXiv 1706.04599.
    """
    bin_N = np.digitize(confidence_N, np.linspace(0, 1, BINS + 1)[1:-1])
    gaps = np.bincount(bin_N, weights=right_N - confidence_N)  # accuracy - confidence, times the bin's size
    return 100 * float(np.abs(gaps).sum() / len(confidence_N))
