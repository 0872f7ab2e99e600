"""Read a cache: rows by memory map, at the speed of memory.

    cache = FeatureCache("train.h5")
    maps = cache.take(np.array([3, 1, 4]))   # (3, C, H, W)
    labels = cache.labels[[3, 1, 4]]
    map, label = cache[3]                    # a sequence: cache[2:5], cache[[3, 1, 4]], DataLoader(cache)

h5py's fancy indexing costs 14 ms and more for a batch that takes 0.7 ms this way (benchmarks/read_cache.py).
"""

import mmap
import os
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.contents import Contents, read_digests, read_published
from cache.digests import check_blocks
from cache.dtypes import Raw
from cache.errors import CacheError
from cache.facts import Facts
from cache.format import BLOCK_ROWS, FEATURES, IMAGE_DIGESTS
from cache.gather import gather
from cache.held import HeldFile
from cache.loading import Batch, remember, values
from cache.row_reads import read_rows
from cache.rows import Index, Rows, TorchDataset, Views, checked, indexed, places

# Linux refuses a writable private map larger than the memory, unless told to reserve none for it.
# The mmap module knows the constant only from Python 3.13 on.
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)

AT_ONCE = 64
"""Blocks that are checked between two reports of how many were."""


class FeatureCache(Facts, TorchDataset):
    """A complete cache; maps the features on first use.

    Everything it gives is of the one file that was opened: while it lives it holds a descriptor, and where
    another file has that name by now, or somebody wrote into it, what would have to be read anew is an error.
    It pickles as the path and a digest; a copy opens the file when first used, and refuses another one.

    Raises: CacheError when the file is missing, incomplete, damaged in its structure or header, or forbidden
    (FORMAT.md), or is replaced. Features are checked by `verify`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._fingerprint: bytes | None = None
        self._fingerprint = self._contents.fingerprint
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
    def _file(self) -> HeldFile:
        return HeldFile(self.path, self._fingerprint)

    @property
    def _contents(self) -> Contents:
        return self._file.contents

    @cached_property
    def _verified(self) -> NDArray[np.bool_]:
        """Which blocks were checked here, (B,)."""
        return np.zeros(self.blocks, np.bool_)

    @property
    def token(self) -> Hashable:
        """Equal for objects that read the same file of the same contents."""
        return self.path, self._fingerprint

    @property
    def block_rows(self) -> int:
        """Rows that share a digest."""
        return BLOCK_ROWS

    @property
    def blocks(self) -> int:
        return self._contents.layout.blocks

    @cached_property
    def image_digests(self) -> NDArray[np.uint8]:
        """(N, 16): a digest of each image's encoded bytes, recorded when they were read."""
        with self._opened() as fd:
            return read_digests(fd, self._contents.layout, IMAGE_DIGESTS)

    @cached_property
    def features(self) -> Raw:
        """(N, V, C, H, W) in the storage dtype, memory-mapped; bfloat16 as bit patterns in uint16.

        The map is private: writing to the array changes this process's copy and never the file.
        """
        layout = self._contents.layout
        with self._opened() as fd:
            flags = mmap.MAP_PRIVATE | _NORESERVE
            mapped = mmap.mmap(fd, layout.end, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        count = layout[FEATURES].nbytes // layout.dtype.raw.itemsize
        return np.frombuffer(mapped, layout.dtype.raw, count, layout[FEATURES].offset).reshape(self.shape)

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
            gather(self.features.reshape(-1, out.size // index.size), index, out.reshape(index.size, -1))
        self._file.refuse_changed()
        return out

    def read(self, rows: ArrayLike, view: Views = 0, out: Raw | None = None) -> Raw:
        """As `take`, but read from the file: for rows that have to come from a disk, where a memory map waits
        for one page after another. No pages are mapped, which would count as memory in use.

        Raises: as `take`; CacheError when the file can't be read.
        """
        index, out = self._places(rows, view, out)
        with self._opened() as fd:
            try:
                read_rows(fd, self._contents.layout[FEATURES].offset, index, out)
            except (OSError, EOFError) as error:
                raise CacheError(f"{self.path}: can't be read: {error}") from error
        self._file.refuse_changed()
        return out

    def release(self) -> None:
        """Let go of the mapped pages, which count as memory in use; the next `take` maps them again."""
        self.__dict__.pop("features", None)

    def verify(
        self, rows: ArrayLike | None = None, watch: Callable[[int], object] = lambda blocks: None
    ) -> None:
        """Check digests: of the blocks that hold `rows` and weren't checked here before, or of everything.
        `watch` is told now and then how many blocks were checked.

        Raises: CacheError naming the file and the first block that doesn't match; IndexError as `take`.
        """
        with self._opened() as fd:
            if rows is None:
                read_published(fd, str(self.path))  # header and journal
                blocks = np.arange(self.blocks)
            else:
                blocks = np.unique(self._rows(rows) // BLOCK_ROWS)
                blocks = blocks[~self._verified[blocks]]
            for start in range(0, len(blocks), AT_ONCE):
                some = blocks[start : start + AT_ONCE].tolist()
                check_blocks(fd, self._contents.layout, self._contents.digests, some, str(self.path))
                watch(start + len(some))
        self._verified[blocks] = True

    def _places(self, rows: ArrayLike, view: Views, out: Raw | None) -> tuple[NDArray[np.intp], Raw]:
        return places(self._rows(rows), view, self.shape, self._contents.layout.dtype.raw, out)

    def _rows(self, rows: ArrayLike) -> NDArray[np.intp]:
        return checked(rows, len(self), str(self.path))

    def _opened(self) -> AbstractContextManager[int]:
        return self._file.opened()
