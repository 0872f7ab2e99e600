"""The training images nearest to some test images: by the cosine of maps averaged over their cells, as `knn`
has it. A mistake beside neighbours of the wrong class is the trunk's, or the label's; else it is the head's.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import FeatureCache
from pipeline.progress import Progress

COUNT = 3
AT_ONCE = 1024
MOST_BYTES = 1 << 32
"""Maps that are read at most; of more, rows at even distances."""


class Neighbour(NamedTuple):
    """A training image near a test image."""

    path: str
    labels: tuple[str, ...]
    cosine: float
    same_file: bool
    """Whether it has the very same contents."""


def nearest(training: FeatureCache, test: FeatureCache, rows: list[int]) -> tuple[list[list[Neighbour]], int]:
    """Each test row's nearest training images, the nearest first, and among how many they were looked for.

    Raises: CacheError when a block is damaged.
    """
    wanted = _pooled(test, np.array(rows, np.intp))
    bytes_each = int(np.prod(training.shape[2:])) * training.features.itemsize
    step = max(1, -(-len(training) * bytes_each // MOST_BYTES))
    known = np.arange(0, len(training), step)
    count = min(COUNT, len(known))
    best = np.full((len(rows), count), -2.0, np.float32)
    places = np.zeros((len(rows), count), np.intp)
    with Progress("looking for neighbours", len(known), "images") as progress:
        for start in range(0, len(known), AT_ONCE):
            some = known[start : start + AT_ONCE]
            found = np.concatenate([best, wanted @ _pooled(training, some).T], axis=1)
            candidates = np.concatenate([places, np.broadcast_to(some, (len(rows), len(some)))], axis=1)
            order = np.argsort(-found, axis=1, kind="stable")[:, :count]
            best, places = (np.take_along_axis(a, order, axis=1) for a in (found, candidates))
            progress.advance(len(some))
    lists = [
        [_neighbour(training, test, row, *pair) for pair in zip(own.tolist(), cosines.tolist(), strict=True)]
        for row, own, cosines in zip(rows, places, best, strict=True)
    ]
    return lists, len(known)


def _pooled(cache: FeatureCache, rows: NDArray[np.intp]) -> NDArray[np.float32]:
    """(n, C) maps averaged over their cells, of length 1."""
    cache.verify(rows)
    means = cache.decode(cache.take(rows)).mean((2, 3), dtype=np.float32)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)


def _neighbour(training: FeatureCache, test: FeatureCache, row: int, place: int, cosine: float) -> Neighbour:
    label, digest = training.labels[place], training.image_digests[place]
    own = np.flatnonzero(label == 1) if training.multi_label else [int(label)]
    same = bool(digest.any()) and bool((digest == test.image_digests[row]).all())
    return Neighbour(training.paths[place], tuple(training.classes[k] for k in own), cosine, same)
