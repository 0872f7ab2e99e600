"""Metrics of a classifier from its logits: accuracy, likelihood, calibration, per class.

    logits_NK   float (N, K), one score per image and class      labels_N   int64 (N,), 0..K-1

Among equal logits the class with the lower index comes first, in top-1 and in top-5, so a head that says the
same of every class scores the share of class 0. Everything is computed in float64, some images at a time, and
nothing is as large as classes × classes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError

TOP = 5
BINS = 15
CHUNK = 1 << 20
"""Logits that are looked at at once."""

UNITS = {
    "images": "count",
    "top1": "per cent of the images whose highest logit is the label's",
    "top5": "per cent of the images whose label is among the 5 highest logits; null with 5 classes or fewer",
    "nll": "nats per image: mean negative log-likelihood of the label",
    "ece": "per cent: mean |accuracy - confidence| of the predicted class over 15 equal bins, by size",
    "mean_class_accuracy": "per cent: mean of per_class over the classes that occur",
    "per_class": "per cent of each class's images that are classified right; null for a class without images",
    "confusion": "the matrix's cells that are not zero: label and prediction, as positions in classes, and "
    "the count of images",
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
    rank_N, predicted_N = ranks(logits_NK, labels_N), logits_NK.argmax(1)
    loss_N, confidence_N = _likelihood(logits_NK, labels_N)
    images_K = np.bincount(labels_N, minlength=len(classes))
    right_K = np.bincount(labels_N[predicted_N == labels_N], minlength=len(classes))
    with np.errstate(invalid="ignore"):
        shares_K = 100 * right_K / images_K  # NaN of a class without images
    return {
        "images": len(labels_N),
        "top1": 100 * float(np.mean(rank_N < 1)),
        "top5": 100 * float(np.mean(rank_N < TOP)) if len(classes) > TOP else None,
        "nll": float(loss_N.mean()),
        "ece": calibration_error(confidence_N, predicted_N == labels_N),
        "mean_class_accuracy": float(np.nanmean(shares_K)),
        "per_class": {
            name: None if np.isnan(share) else share
            for name, share in zip(classes, shares_K.tolist(), strict=True)
        },
        "confusion": confusion(labels_N, predicted_N),
    }


def confusion(labels_N: NDArray[np.integer], predicted_N: NDArray[np.integer]) -> dict[str, list[int]]:
    """The cells of the confusion matrix that are not zero, by label and then by prediction: at most N of
    them, however many classes there are."""
    cells, counts = np.unique(np.stack([labels_N, predicted_N]), axis=1, return_counts=True)
    return {"label": cells[0].tolist(), "prediction": cells[1].tolist(), "count": counts.tolist()}


def ranks(logits_NK: NDArray[np.floating], labels_N: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count the classes that come before the label's, (N,): 0 is a right answer."""
    found = np.empty(len(labels_N), np.int64)
    for rows in _pieces(logits_NK):
        logits, labels_n1 = logits_NK[rows], labels_N[rows, None]
        own_n1 = np.take_along_axis(logits, labels_n1, axis=1)
        earlier = np.arange(logits.shape[1]) < labels_n1
        found[rows] = ((logits > own_n1) | ((logits == own_n1) & earlier)).sum(1)
    return found


def _likelihood(
    logits_NK: NDArray[np.floating], labels_N: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The negative log-likelihood of each label, and the probability of each prediction, (N,)."""
    import torch  # here, for what doesn't need a likelihood needs no torch
    from torch.nn import functional as F

    losses, confidences = (np.empty(len(labels_N)) for _ in range(2))
    for rows in _pieces(logits_NK):
        logs = torch.from_numpy(logits_NK[rows]).double().log_softmax(1)
        losses[rows] = F.nll_loss(logs, torch.from_numpy(labels_N[rows]).long(), reduction="none")
        confidences[rows] = logs.amax(1).exp()
    return losses, confidences


def _pieces(logits_NK: NDArray[np.floating]) -> Iterator[slice]:
    count, classes = logits_NK.shape
    step = max(1, CHUNK // max(classes, 1))
    return (slice(start, start + step) for start in range(0, count, step))


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
