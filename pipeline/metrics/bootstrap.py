"""Paired bootstrap: how sure is a difference in top-1 between two runs on the same images?

Images are drawn with replacement, both runs' answers together, so what an image adds to both cancels. Seeds
are averaged first and not drawn: the interval is that of the test images, for these trained heads.

Only the sum over the drawn images is needed, and an image's difference takes few values (-1, 0, +1 for one
seed each). How many of N draws fall on each value is multinomial with the values' shares, so drawing these
counts is the same distribution, exactly, as drawing N indices, at a cost that does not depend on N.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHUNK = 1 << 22
"""Counts held at once: 32 MiB."""


class Interval(NamedTuple):
    """A difference in top-1 in percentage points, b minus a, and the ends of its interval."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.2f} [{self.low:+.2f}, {self.high:+.2f}]"


def paired_interval(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Percentile interval of top-1(b) - top-1(a), in percentage points.

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
    points = 100 / (seeds_a * seeds_b * images)
    sums = _resampled_sums(values, counts, resamples, np.random.default_rng(seed))
    low, high = np.quantile(sums, [(1 - level) / 2, (1 + level) / 2]) * points
    return Interval(float(steps_N.sum() * points), float(low), float(high))


def _resampled_sums(
    values: NDArray[np.int64], counts: NDArray[np.int64], resamples: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Sums of N draws from N numbers, of which counts[i] are values[i], (resamples,)."""
    images, rows = int(counts.sum()), max(1, CHUNK // len(values))
    sizes = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    return np.concatenate([rng.multinomial(images, counts / images, size) @ values for size in sizes])
