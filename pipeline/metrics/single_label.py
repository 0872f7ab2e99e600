"""Metrics of a classifier from its logits: accuracy, likelihood, calibration, per class.

    logits_NK   float (N, K), one score per image and class      labels_N   int64 (N,), 0..K-1

Of equal logits the class with the lower index comes first, in top-1 and in top-5, so a head that says the
same of every class scores the share of class 0. Everything is computed in float64.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torchmetrics.functional.classification import binary_calibration_error, multiclass_confusion_matrix

from pipeline.errors import RunError
from pipeline.metrics.logits import refuse_diverged

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

    Raises: RunError when there are no images, or a logit is not finite.
    """
    check(logits_NK, labels_N, classes)
    logits, labels = torch.from_numpy(logits_NK).double(), torch.from_numpy(labels_N)
    rank, predicted = ranks(logits_NK, labels_N), logits.argmax(1)
    confusion = multiclass_confusion_matrix(predicted, labels, len(classes), validate_args=False).numpy()
    occurring = confusion.sum(1) > 0
    per_class = 100 * confusion.diagonal()[occurring] / confusion.sum(1)[occurring]
    accuracies = dict(zip(np.array(classes)[occurring].tolist(), per_class.tolist(), strict=True))
    return {
        "images": len(labels),
        "top1": 100 * float(np.mean(rank < 1)),
        "top5": 100 * float(np.mean(rank < TOP)) if len(classes) > TOP else None,
        "nll": F.cross_entropy(logits, labels).item(),
        "ece": calibration_error(logits, labels),
        "mean_class_accuracy": float(per_class.mean()),
        "per_class": {name: accuracies.get(name) for name in classes},
        "confusion": confusion.tolist(),
    }


def ranks(logits_NK: NDArray[np.floating], labels_N: NDArray[np.integer]) -> NDArray[np.int64]:
    """How many classes come before the label's, (N,): 0 is a right answer."""
    own_N1 = np.take_along_axis(logits_NK, labels_N[:, None], axis=1)
    earlier_NK = np.arange(logits_NK.shape[1]) < labels_N[:, None]
    return ((logits_NK > own_N1) | ((logits_NK == own_N1) & earlier_NK)).sum(1)


def calibration_error(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Expected calibration error in per cent: 15 equal bins of the predicted class's probability, L1.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    confidence, predicted = logits.softmax(1).max(1)
    # torchmetrics' bins are [low, high), and a probability of exactly 1 would be in a sixteenth one.
    confidence = confidence.clamp(max=float(np.nextafter(1.0, 0.0)))
    return 100 * binary_calibration_error(confidence, (predicted == labels).long(), BINS).item()


def check(logits_NK: NDArray[np.floating], labels_N: NDArray[np.integer], classes: tuple[str, ...]) -> None:
    """Raises: RunError when there are no images or a logit is not finite; ValueError on shapes or labels."""
    if logits_NK.shape != (len(labels_N), len(classes)):
        raise ValueError(f"logits {logits_NK.shape} for {len(labels_N)} labels and {len(classes)} classes")
    if not len(labels_N):
        raise RunError("no test images to score")
    if labels_N.min() < 0 or labels_N.max() >= len(classes):
        raise ValueError(f"labels from {labels_N.min()} to {labels_N.max()} for {len(classes)} classes")
    refuse_diverged(logits_NK)
