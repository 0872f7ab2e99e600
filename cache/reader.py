"""Read a cache: rows by memory map, at the speed of memory.

    cache = FeatureCache("train.h5")
    maps = cache.take(np.array([3, 1, 4]))   # (3, C, H, W)
    labels = cache.labels[[3, 1, 4]]
    map, label = cache[3]                    # a sequence: cache[2:5], cache[[3, 1, 4]], DataLoader(cache)

h5py's fancy indexing costs 14 ms and more for a batch that takes 0.7 ms this way (benchmarks/read_cache.py).
"""

import os
from collections.abc import Callable, Hashable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.dtypes import DTYPES, Raw
from cache.facts import Facts
from cache.format import BLOCK_ROWS
from cache.loading import Batch, remember, values
from cache.manifest import SUFFIX
from cache.many_files import ManyFiles
from cache.one_file import OneFile
from cache.rows import Index, Rows, TorchDataset, Views, checked, indexed, places
from cache.store import Store


class FeatureCache(Facts, TorchDataset):
    """A complete cache, one file (.h5) or several with a manifest (.json); maps the features on first use.

    Everything it gives is of the files that were opened: where another file has such a name by now, or
    somebody wrote into it, what would have to be read anew is an error. It pickles as the path and a digest;
    a copy opens the files when first used, and refuses others.

    Raises: CacheError when a file is missing, incomplete, damaged in its structure or header, or forbidden
    (FORMAT.md), or is replaced. Features are checked by `verify`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._fingerprint: bytes | None = None
        self._fingerprint = self._store.fingerprint
        remember(self, self.token)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_fingerprint": self._fingerprint}

    def __getitem__(self, index: Index) -> Rows:
        """A map and its label by an integer; those of several rows by a slice, integers or a mask. Of images
        with several views the first one.

        Raises: IndexError when there is no such row, CacheError as `take`.
        """
        rows = indexed(index, len(self), str(self.path))
        features, labels = values(self, rows.reshape(-1))
        if rows.ndim:
            return Rows(features, labels)
        return Rows(features[0], labels[0] if self.multi_label else int(labels[0]))

    def __getitems__(self, rows: ArrayLike) -> Batch:
        """A sequence of `cache[row]` for each row, which torch's DataLoader asks for and makes a batch of.

        Raises: IndexError as `take`.
        """
        return Batch(self, self._rows(rows))

    def __iter__(self) -> Iterator[Rows]:
        for start in range(0, len(self), BLOCK_ROWS):
            yield from Batch(self, np.arange(start, min(start + BLOCK_ROWS, len(self))))

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.path)!r}: {self.dtype} {self.shape})"

    @cached_property
    def _store(self) -> Store:
        kind = ManyFiles if self.path.suffix == SUFFIX else OneFile
        return kind(self.path, self._fingerprint)

    def _stored(self) -> Store:
        return self._store

    @cached_property
    def _verified(self) -> NDArray[np.bool_]:
        """Which blocks were checked here, (B,)."""
        return np.zeros(self.blocks, np.bool_)

    @property
    def token(self) -> Hashable:
        """Equal for objects that read the same file of the same contents."""
        return self.path, self._fingerprint

    @property
    def fingerprint(self) -> str:
        """32 hexadecimal digits that are others if any byte of the cache is; no proof against forgery."""
        return self._store.fingerprint.hex()

    @property
    def block_rows(self) -> int:
        """Rows that share a digest."""
        return BLOCK_ROWS

    @property
    def blocks(self) -> int:
        """How many blocks of rows share a digest, in all files."""
        return self._store.blocks

    @property
    def shards(self) -> dict[Path, range]:
        """The files that hold its rows, and the places in each, counted over all of them."""
        return self._store.shards

    def places(self, rows: ArrayLike) -> NDArray[np.intp]:
        """(n,) where rows lie among those of all files. Raises: IndexError when there is no such row."""
        return self._store.places(self._rows(rows))

    @cached_property
    def image_digests(self) -> NDArray[np.uint8]:
        """(N, 16): a digest of each image's encoded bytes, recorded when they were read."""
        return self._store.image_digests()

    @property
    def features(self) -> Raw:
        """(N, V, C, H, W) in the storage dtype, memory-mapped; bfloat16 as bit patterns in uint16,
        int8 as the integers (`decode` gives the values).

        The map is private: writing to the array changes this process's copy and never the file.
        """
        return self._store.features()

    def take(self, rows: ArrayLike, view: Views = 0, out: Raw | None = None) -> Raw:
        """Gather rows into one array, in the storage dtype.

        rows: n integers from 0 to N - 1, in any order. view: one view, or an array of n with one for each row
        → (n, C, H, W); a slice of views, or None for all → (n, views, C, H, W). out: an array of that shape
        to gather into, which saves allocating one.

        Raises: IndexError when a row or view is out of range, ValueError when `out` doesn't fit, CacheError
        when the file was replaced or written into.
        """
        index, out = self._places(rows, view, out)
        if index.size:
            self._store.take(index, out)
        return out

    def read(self, rows: ArrayLike, view: Views = 0, out: Raw | None = None) -> Raw:
        """As `take`, but read from the file: for rows that have to come from a disk, where a memory map waits
        for one page after another. No pages are mapped, which would count as memory in use.

        Raises: as `take`; CacheError when the file can't be read.
        """
        index, out = self._places(rows, view, out)
        if index.size:
            self._store.read(index, out)
        return out

    def touch(self, rows: ArrayLike) -> None:
        """Have the first views of rows in memory, so that `take` doesn't wait for a disk."""
        nbytes = self._store.row_bytes // self.shape[1]
        self._store.touch(self._store.places(self._rows(rows)) * self.shape[1], nbytes)

    def release(self) -> None:
        """Let go of the mapped pages, which count as memory in use; the next `take` maps them again."""
        self._store.release()

    def verify(
        self, rows: ArrayLike | None = None, watch: Callable[[int], object] = lambda blocks: None
    ) -> None:
        """Check digests: of the blocks that hold `rows` and weren't checked here before, or of everything.
        `watch` is told now and then how many blocks were checked.

        Raises: CacheError naming the file and the first block that doesn't match; IndexError as `take`.
        """
        if rows is None:
            self._store.check_headers()
            blocks = np.arange(self.blocks)
        else:
            blocks = self._store.blocks_of(self._store.places(self._rows(rows)))
            blocks = blocks[~self._verified[blocks]]
        self._store.check(blocks, watch)
        self._verified[blocks] = True

    def _places(self, rows: ArrayLike, view: Views, out: Raw | None) -> tuple[NDArray[np.intp], Raw]:
        """Positions of single maps, or of all maps of a row, among those of the files, and where they go."""
        there = self._store.places(self._rows(rows))
        return places(there, view, self.shape, DTYPES[self.dtype].raw, out)

    def _rows(self, rows: ArrayLike) -> NDArray[np.intp]:
        return checked(rows, len(self), str(self.path))
