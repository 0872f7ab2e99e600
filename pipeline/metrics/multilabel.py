"""Metrics of a multi-label classifier from its logits: average precision, precision and recall.

    logits_NK   float (N, K), one score per image and class
    labels_NK   int8 (N, K): 1 present, 0 absent, -1 not counted, neither for nor against

A class without a present label has no recall: it is left out of every mean over classes, CP included, for
a class that is rightly never predicted would have a precision of 0 there. Wrong predictions of it still lower
OP. Rates are float64; `score` gives per cent.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.metrics.ranking import rank

TOP = 3
CHUNK = 1 << 20
"""Scores that are ranked at once, which takes some fifty times their bytes."""

_RATES = (
    "per cent: CP, CR mean over classes of right/predicted (0 where nothing is) and right/present; "
    "OP, OR the same of all labels together; CF1, OF1 the harmonic mean of the two; labels predicted are "
)
UNITS = {
    "images": "count",
    "present": "count of each class's images",
    "not_counted": "count of image-label pairs left out: difficult or unknown",
    "map": "per cent: mean of per_class over the classes that occur",
    "map_11_point": "per cent: mean of per_class_11_point over the classes that occur",
    "per_class": "per cent: average precision, not interpolated (mean of the precisions at each image that "
    "has the class, equal scores as one threshold); null for a class without images",
    "per_class_11_point": "per cent: average precision as VOC 2007 defines it, interpolated (mean of the "
    "highest precisions at recall >= 0, 0.1, ..., 1); null for a class without images",
    "at_half": _RATES + "those whose sigmoid is above 0.5",
    "top3": _RATES + "the 3 highest of each image",
}


class Rates(NamedTuple):
    """Precision and recall, 0..1: C averaged over classes, O over all labels."""

    cp: float
    cr: float
    cf1: float
    op: float
    or_: float
    of1: float

    def per_cent(self) -> dict[str, float]:
        return {name.rstrip("_"): 100 * value for name, value in self._asdict().items()}


def score(
    logits_NK: NDArray[np.floating], labels_NK: NDArray[np.integer], classes: tuple[str, ...]
) -> dict[str, Any]:
    """All metrics as JSON types; `UNITS` says what each one is.

    Raises: RunError when no label is present; ValueError on shapes, labels or logits that are not finite.
    """
    if not logits_NK.shape == labels_NK.shape == (len(labels_NK), len(classes)):
        raise ValueError(f"logits {logits_NK.shape}, labels {labels_NK.shape}, {len(classes)} classes")
    if labels_NK.size and (labels_NK.min() < -1 or labels_NK.max() > 1):
        raise ValueError(f"labels from {labels_NK.min()} to {labels_NK.max()} for 1, 0 and -1")
    if not np.isfinite(logits_NK).all():
        raise ValueError("logits that are not finite")
    if not (labels_NK == 1).any():
        raise RunError("no test image has one of the classes: nothing to score")
    plain, points = average_precision(logits_NK, labels_NK), average_precision_11_point(logits_NK, labels_NK)
    return {
        "images": len(labels_NK),
        "present": dict(zip(classes, (labels_NK == 1).sum(0).tolist(), strict=True)),
        "not_counted": int((labels_NK == -1).sum()),
        "map": 100 * float(mean_over_classes(plain)),
        "map_11_point": 100 * float(mean_over_classes(points)),
        "per_class": _by_class(plain, classes),
        "per_class_11_point": _by_class(points, classes),
        "at_half": precision_recall(logits_NK > 0, labels_NK).per_cent(),
        "top3": precision_recall(top_labels(logits_NK), labels_NK).per_cent(),
    }


def average_precision(scores_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]) -> NDArray[np.float64]:
    """Non-interpolated average precision of each class: (K,), or (M, K) for M heads' scores (M, N, K).

    The mean of the precisions at each present label, where equal scores are one threshold: they count
    together, whatever their order. NaN for a class without present labels. A score that is NaN counts as the
    lowest.
    """
    *heads, _, count = scores_NK.shape
    found = np.empty((*heads, count))
    for head in np.ndindex(*heads):
        for columns in pieces(labels_NK):
            ranking = rank(scores_NK[head][:, columns], labels_NK[:, columns])
            found[(*head, columns)] = ranking.average_precision()
    return found


def pieces(array_NK: NDArray[Any], axis: int = 1) -> Iterator[slice]:
    """Slices of an axis, each so long that it holds about `CHUNK` numbers."""
    length = array_NK.shape[axis]
    step = max(1, CHUNK * length // max(array_NK.size, 1))
    return (slice(start, start + step) for start in range(0, length, step))


def mean_average_precision(
    scores_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Mean of `average_precision` over the classes that have present labels: (), or (M,) for M heads."""
    return mean_over_classes(average_precision(scores_NK, labels_NK))


def mean_over_classes(values_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without the NaNs; NaN when there is nothing else."""
    known_K = ~np.isnan(values_K)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known_K, values_K, 0).sum(-1) / known_K.sum(-1))


def average_precision_11_point(
    scores_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]
) -> NDArray[np.float64]:
    """VOC 2007's average precision of each class, (K,): the mean over t = 0, 0.1, ..., 1 of the highest
    precision at a recall of t or more.

    Unlike in `average_precision`, images are ranked one by one: among equal scores the earlier row comes
    first, as in the development kit's stable sort. NaN for a class without present labels.

    Source: Everingham et al., The PASCAL Visual Object Classes (VOC) Challenge, IJCV 2010, section 4.2.
    """
    columns = [_11_points(scores_NK[:, some], labels_NK[:, some]) for some in pieces(labels_NK)]
    return np.concatenate(columns)


def _11_points(scores_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]) -> NDArray[np.float64]:
    order_NK = np.argsort(-scores_NK, axis=0, kind="stable")
    labels_NK = np.take_along_axis(labels_NK, order_NK, axis=0)
    right_NK = np.cumsum(labels_NK == 1, axis=0)
    precision_NK = right_NK / np.maximum(np.cumsum(labels_NK >= 0, axis=0), 1)
    best_NK = np.maximum.accumulate(precision_NK[::-1], axis=0)[::-1]  # from each rank on
    present_K = right_NK[-1]
    total_K = np.zeros(labels_NK.shape[1])
    for tenth in range(11):  # recall in integers: 3 of 10 do reach 0.3
        first_K = (10 * right_NK >= tenth * present_K).argmax(0)
        total_K += np.take_along_axis(best_NK, first_K[None], axis=0)[0]
    return np.where(present_K > 0, total_K / 11, np.nan)


def top_labels(logits_NK: NDArray[np.floating], count: int = TOP) -> NDArray[np.bool_]:
    """The `count` highest labels of each image, (N, K); among equal ones the lower classes."""
    predicted = np.zeros(logits_NK.shape, np.bool_)
    for rows in pieces(logits_NK, axis=0):
        order = np.argsort(-logits_NK[rows], axis=1, kind="stable")[:, :count]
        np.put_along_axis(predicted[rows], order, True, axis=1)
    return predicted


def precision_recall(predicted_NK: NDArray[np.bool_], labels_NK: NDArray[np.integer]) -> Rates:
    """CP, CR, CF1, OP, OR, OF1. Precision is 0 where nothing is predicted, a harmonic mean of zeros 0.

    CF1 is the harmonic mean of CP and CR, not the mean of the classes' F1 ("macro F1" of libraries).
    The prediction of a label that is not counted is neither right nor wrong.
    """
    present_K = (labels_NK == 1).sum(0)
    right_K = (predicted_NK & (labels_NK == 1)).sum(0)
    predicted_K = (predicted_NK & (labels_NK >= 0)).sum(0)
    known = present_K > 0
    if not known.any():
        return Rates(*[float("nan")] * 6)
    cp = float((right_K / np.maximum(predicted_K, 1))[known].mean())
    cr = float((right_K[known] / present_K[known]).mean())
    op, or_ = float(right_K.sum() / max(predicted_K.sum(), 1)), float(right_K.sum() / present_K.sum())
    return Rates(cp, cr, _harmonic(cp, cr), op, or_, _harmonic(op, or_))


def _harmonic(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _by_class(values_K: NDArray[np.float64], classes: tuple[str, ...]) -> dict[str, float | None]:
    found = zip(classes, values_K.tolist(), strict=True)
    return {name: None if np.isnan(value) else 100 * value for name, value in found}
