"""How the images of a split differ from those of its cache, in numbers that are said before work begins."""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from cache import CacheHeader, FeatureCache
from pipeline.extraction.matching import Found


@dataclasses.dataclass(frozen=True)
class Counts:
    """How the images of a split differ from those of its cache."""

    kept: int
    new: int
    removed: int
    moved: int
    """Found under another path, in this split or the other one."""
    changed: int
    relabelled: int

    def __str__(self) -> str:
        return (
            f"{self.new:,} new, {self.removed:,} removed, {self.moved:,} moved, {self.changed:,} changed, "
            f"{self.relabelled:,} relabelled, {self.kept:,} as they were"
        )


def counted(
    cache: FeatureCache,
    header: CacheHeader,
    by_path: Found,
    rows: Found,
    places: Found,
    as_they_were: NDArray[np.bool_],
) -> Counts:
    """The numbers of N images. Of each, `by_path` and `rows` are the row in the cache that has its path, and
    the row whose maps are its own, -1 without one; `places` is -1 where maps must be computed."""
    gone = np.ones(len(cache), np.bool_)
    gone[by_path[by_path >= 0]] = gone[rows[rows >= 0]] = False
    return Counts(
        kept=int(as_they_were.sum()),
        new=int(((places < 0) & (by_path < 0)).sum()),
        removed=int(gone.sum()),
        moved=int(((places >= 0) & ~as_they_were).sum()),
        changed=int(((places < 0) & (by_path >= 0)).sum()),
        relabelled=_relabelled(cache, rows, header),
    )


def _relabelled(cache: FeatureCache, rows: Found, header: CacheHeader) -> int:
    """How many of the rows that stay have another label now."""
    now, there = header.labels, np.flatnonzero(rows >= 0)
    if cache.multi_label != header.multi_label:
        return len(there)
    old, new = cache.labels[rows[there]], now[there]
    if header.multi_label:
        before = np.zeros_like(new)
        known = [
            (column, cache.classes.index(name))
            for column, name in enumerate(header.classes)
            if name in cache.classes
        ]
        for column, was in known:
            before[:, column] = old[:, was]
        return int((before != new).any(1).sum())
    names = np.array([*cache.classes]), np.array([*header.classes])
    return int((names[0][old] != names[1][new]).sum())
