"""Where maps lie that several caches hold: the places of rows among those of all their files."""

from pathlib import Path

import numpy as np

from cache import FeatureCache
from pipeline.extraction.matching import Found


class Pool:
    """The files of some caches, and the places of their rows among those of all files."""

    def __init__(self) -> None:
        self.begins = dict[Path, int]()
        self.rows = 0

    def places(self, cache: FeatureCache, rows: Found) -> Found:
        """(n,) of rows of a cache, whose files are added if they aren't there yet."""
        for path, there in cache.shards.items():
            if path not in self.begins:
                self.begins[path] = self.rows
                self.rows += len(there)
        own = cache.places(rows)
        firsts = np.array([there.start for there in cache.shards.values()])
        begins = np.array([self.begins[path] for path in cache.shards])
        number = np.searchsorted(firsts, own, side="right") - 1
        return begins[number] + own - firsts[number]

    def used(self, places: Found, always: Path) -> tuple[tuple[Path, ...], Found, int]:
        """The files in which some places are, the places among these, and how many rows they have. `always`
        stays, if it is there."""
        begins, paths = np.array([*self.begins.values()]), list(self.begins)
        sizes = np.diff(begins, append=self.rows)
        number = np.searchsorted(begins, places.clip(min=0), side="right") - 1
        kept = [i for i, path in enumerate(paths) if path == always or (number[places >= 0] == i).any()]
        moved = np.zeros(len(paths), np.int64)
        moved[kept] = np.concatenate([[0], np.cumsum(sizes[kept])[:-1]])
        moved -= begins
        places = np.where(places >= 0, places + moved[number], -1)
        return tuple(paths[i] for i in kept), places, int(sizes[kept].sum())
