"""Paired bootstrap: how sure is a difference in top-1 or mAP between two runs on the same images?

Images are drawn with replacement, both runs' answers together, so the difficulty of an image cancels. Seeds
are averaged first and not drawn: the interval covers the choice of test images, for these trained heads.

Top-1 needs only the sum over the drawn images, and an image's difference takes few values (-1, 0, +1 for one
seed each). How many of N draws fall on each value is multinomial with the values' shares, so drawing these
counts is the same distribution, exactly, as drawing N indices, at a cost that does not depend on N.

mAP is no mean over images, so every resample needs its own. Each class is ranked once; a resample then
weights the ranked images by how often they were drawn, which costs sums instead of sorting. A class whose
present labels are all missing from a resample is left out of that resample's mean.

Shapes: S, T seeds of two runs, N images, K classes, R resamples.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.multilabel import mean_average_precision, mean_over_classes, pieces
from pipeline.metrics.ranking import Thresholds, rank, thresholds

CHUNK = 1 << 20
"""Numbers that are drawn at once: a few arrays of 4 or 8 MiB."""
LEVEL = 0.95
ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
"""Quantiles of the resampled differences."""


class Interval(NamedTuple):
    """A difference in percentage points, b minus a, and the ends of its interval."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def top1_interval(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of top-1(b) - top-1(a), in percentage points.

    Args:
        correct_a: which images run a answers right: (N,), or (S, N) for S seeds of it.
        correct_b: the same images for b: (N,) or (T, N).

    The same seed gives the same interval. Raises: ValueError when the images differ in number, or are none.
    """
    a_SN, b_TN = np.atleast_2d(correct_a), np.atleast_2d(correct_b)
    if a_SN.shape[1] != b_TN.shape[1] or not a_SN.size or not b_TN.size:
        raise ValueError(f"expected answers to the same images, found {a_SN.shape} and {b_TN.shape}")
    seeds_a, seeds_b, images = len(a_SN), len(b_TN), a_SN.shape[1]
    # In units of 1/(S·T), so that equal differences are equal integers.
    steps_N = seeds_a * b_TN.sum(0, dtype=np.int64) - seeds_b * a_SN.sum(0, dtype=np.int64)
    values, counts = np.unique(steps_N, return_counts=True)
    rng = np.random.default_rng(seed)
    sums = [
        rng.multinomial(images, counts / images, size) @ values for size in _chunks(resamples, len(values))
    ]
    points = 100 / (seeds_a * seeds_b * images)
    low, high = np.quantile(np.concatenate(sums), ENDS) * points
    return Interval(float(steps_N.sum() * points), float(low), float(high))


def mean_ap_interval(
    scores_a: NDArray[np.floating],
    scores_b: NDArray[np.floating],
    labels_NK: NDArray[np.integer],
    *,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of mAP(b) - mAP(a), not interpolated, in percentage points.

    Args:
        scores_a: run a's scores of the images, (N, K), or (S, N, K) for S seeds of it.
        scores_b: the same images for b: (N, K) or (T, N, K).
        labels_NK: 1 present, 0 absent, -1 not counted.

    The same seed gives the same interval. Raises: ValueError when the shapes differ or no label is present.
    """
    a_SNK, b_TNK = (s if s.ndim == 3 else s[None] for s in (scores_a, scores_b))
    if not a_SNK.shape[1:] == b_TNK.shape[1:] == labels_NK.shape or not len(a_SNK) or not len(b_TNK):
        raise ValueError(
            f"expected scores of the same images, found {a_SNK.shape}, {b_TNK.shape} for {labels_NK.shape}"
        )
    if not (labels_NK == 1).any():
        raise ValueError("no label is present")
    weights = draws(len(labels_NK), resamples, np.random.default_rng(seed))
    drawn = mean_ap_draws(np.concatenate([a_SNK, b_TNK]), labels_NK, weights)
    low, high = np.nanquantile(drawn[len(a_SNK) :].mean(0) - drawn[: len(a_SNK)].mean(0), ENDS)
    found = mean_average_precision(b_TNK, labels_NK).mean() - mean_average_precision(a_SNK, labels_NK).mean()
    return Interval(100 * float(found), 100 * float(low), 100 * float(high))


def mean_ap_draws(
    scores_MNK: NDArray[np.floating], labels_NK: NDArray[np.integer], weights: Iterable[NDArray[np.int32]]
) -> NDArray[np.float64]:
    """mAP, 0..1, of M heads on images that `draws` drew, (M, R); NaN where no label is present in a draw."""
    heads = [_thresholds(scores, labels_NK) for scores in scores_MNK]
    found = [np.stack([_mean_ap(head, weights_NR) for head in heads]) for weights_NR in weights]
    return np.concatenate(found, axis=1)


def draws(images: int, resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int32]]:
    """Draw N images for each resample: the counts of each image, (N, R), in chunks of R."""
    for count in _chunks(resamples, images):
        drawn_RN = rng.integers(images, size=(count, images))
        cells = drawn_RN * count + np.arange(count)[:, None]
        times = np.bincount(cells.ravel(), minlength=images * count)
        yield times.reshape(images, count).astype(np.int32)


def _chunks(resamples: int, width: int) -> list[int]:
    """Numbers of resamples to draw at a time when each holds `width` numbers."""
    rows = max(1, CHUNK // width)
    return [min(rows, resamples - start) for start in range(0, resamples, rows)]


def _thresholds(scores_NK: NDArray[np.floating], labels_NK: NDArray[np.integer]) -> list[Thresholds]:
    """The thresholds of all classes, of which some are ranked at a time."""
    return [
        found
        for some in pieces(labels_NK)
        for found in thresholds(rank(scores_NK[:, some], labels_NK[:, some]))
    ]


def _mean_ap(classes: list[Thresholds], weights_NR: NDArray[np.int32]) -> NDArray[np.float64]:
    return mean_over_classes(np.stack([c.average_precision(weights_NR) for c in classes], axis=-1))
