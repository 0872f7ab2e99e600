"""Paired bootstrap of a difference in mean average precision between two runs on the same images.

As in `bootstrap`, images are drawn with replacement, for both runs at once, and seeds are averaged first. But
mAP is no mean over images, so that every resample needs its own. Each class is ranked once; a resample then
weights the ranked images by how often they were drawn, which costs sums instead of sorting.

A class whose present labels are all missing from a resample is left out of that resample's mean.

Shapes: S, T seeds of two runs, N images, K classes, R resamples.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import Interval
from pipeline.metrics.multilabel import mean_average_precision, mean_over_classes
from pipeline.metrics.ranking import Thresholds, rank, thresholds

CHUNK = 1 << 20
"""Images times resamples that are weighted at once: 4 MiB, and as much again for each step."""


def paired_map_interval(
    scores_a: NDArray[np.floating],
    scores_b: NDArray[np.floating],
    labels_NK: NDArray[np.integer],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of mAP(b) - mAP(a), in percentage points, not interpolated.

    Args:
        scores_a: run a's scores of the images, (N, K), or (S, N, K) for S seeds of it.
        scores_b: b's of the same images: (N, K) or (T, N, K).
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
    drawn = draws(len(labels_NK), resamples, np.random.default_rng(seed))
    sides = [[thresholds(rank(scores, labels_NK)) for scores in side] for side in (a_SNK, b_TNK)]
    differences = []
    for weights_NR in drawn:
        a_R, b_R = (
            np.mean([_map(classes, weights_NR) for classes in side], axis=0, dtype=np.float64)
            for side in sides
        )
        differences.append(b_R - a_R)
    ends = np.nanquantile(np.concatenate(differences), [(1 - level) / 2, (1 + level) / 2])
    found = mean_average_precision(b_TNK, labels_NK).mean() - mean_average_precision(a_SNK, labels_NK).mean()
    return Interval(100 * float(found), *(100 * ends).tolist())


def draws(images: int, resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.int32]]:
    """How often each image was drawn in each resample, (N, R) in chunks of R: N draws each."""
    rows = max(1, CHUNK // images)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn_RN = rng.integers(images, size=(count, images))
        cells = drawn_RN * count + np.arange(count)[:, None]
        times = np.bincount(cells.ravel(), minlength=images * count)
        yield times.reshape(images, count).astype(np.int32)


def _map(classes: list[Thresholds], weights_NR: NDArray[np.int32]) -> NDArray[np.float64]:
    return mean_over_classes(np.stack([c.average_precision(weights_NR) for c in classes], axis=-1))
