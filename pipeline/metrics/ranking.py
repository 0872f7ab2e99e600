"""Images ranked by score once; average precision from the ranks as often as wanted, images weighted or not.

Shapes: N images, K classes, M heads (any leading axes), R weightings of the images, T thresholds of a class
at which it is present in some image: the only ones that precision is averaged over.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Ranking(NamedTuple):
    """Each class's images from the highest score down. Equal scores are one threshold, at the last one."""

    order: NDArray[np.intp]  # (..., K, N) rows
    last: NDArray[np.intp]  # (..., K, N) rank of the last image with the score of this rank's
    present: NDArray[np.bool_]  # (..., K, N) label 1, in this order
    counted: NDArray[np.bool_]  # (..., K, N) label 1 or 0

    def average_precision(self) -> NDArray[np.float64]:
        """(..., K); NaN for a class without present labels."""
        right = np.cumsum(self.present, axis=-1)
        precision = right / np.maximum(np.cumsum(self.counted, axis=-1), 1)
        precision = np.take_along_axis(precision, self.last, axis=-1)
        with np.errstate(invalid="ignore"):
            return np.where(self.present, precision, 0).sum(-1) / right[..., -1]


def rank(scores_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]) -> Ranking:
    """Rank scores (N, K), or (..., N, K) of several heads on the same labels (N, K). NaN is the lowest score.

    Raises: ValueError when the shapes don't fit or there are no images.
    """
    if scores_NK.shape[-2:] != labels_NK.shape or not len(labels_NK):
        raise ValueError(
            f"expected scores and labels of the same images, found {scores_NK.shape}, {labels_NK.shape}"
        )
    scores_KN = np.where(np.isnan(scores_NK), -np.inf, scores_NK).swapaxes(-1, -2)
    labels_KN = np.broadcast_to(labels_NK.T, scores_KN.shape)
    order = np.argsort(-scores_KN, axis=-1)
    scores_KN, labels_KN = (np.take_along_axis(a, order, axis=-1) for a in (scores_KN, labels_KN))
    ranks = np.arange(scores_KN.shape[-1])
    ends = np.full(scores_KN.shape, ranks[-1])
    ends[..., :-1] = np.where(scores_KN[..., 1:] != scores_KN[..., :-1], ranks[:-1], ranks[-1])
    last = np.minimum.accumulate(ends[..., ::-1], axis=-1)[..., ::-1]
    return Ranking(order, last, labels_KN == 1, labels_KN >= 0)


class Thresholds(NamedTuple):
    """One class under one head, for average precision of weighted images by sums instead of sorting."""

    counted: NDArray[np.int32]  # rows with label 1 or 0 from the highest score to the lowest threshold
    counted_from: NDArray[np.intp]  # (T,) where in `counted` the rows of each threshold begin
    present: NDArray[np.int32]  # rows with label 1, likewise
    present_from: NDArray[np.intp]  # (T,)

    def average_precision(self, weights_NR: NDArray[np.int32]) -> NDArray[np.float64]:
        """(R,) as if row i were there weights[i] times; NaN where no present label is left."""
        if not len(self.present):
            return np.full(weights_NR.shape[1], np.nan)
        right_TR = np.add.reduceat(weights_NR[self.present], self.present_from, axis=0, dtype=np.int32)
        seen_TR = np.add.reduceat(weights_NR[self.counted], self.counted_from, axis=0, dtype=np.int32)
        until_TR = np.cumsum(right_TR, axis=0)
        precision_TR = until_TR / np.maximum(np.cumsum(seen_TR, axis=0), 1)
        with np.errstate(invalid="ignore"):
            return (right_TR * precision_TR).sum(0) / until_TR[-1]


def thresholds(ranking: Ranking) -> list[Thresholds]:
    """The thresholds of each class in one head's ranking."""
    found = []
    for order, last, present, counted in zip(*ranking, strict=True):
        ends = np.unique(last[present])
        begins = np.concatenate([[0], ends + 1])[: len(ends)]
        counted_ranks = np.flatnonzero(counted[: ends[-1] + 1 if len(ends) else 0])
        present_ranks = np.flatnonzero(present)
        parts = (
            (order[r].astype(np.int32), np.searchsorted(r, begins)) for r in (counted_ranks, present_ranks)
        )
        found.append(Thresholds(*next(parts), *next(parts)))
    return found
