"""Read a cache: rows by memory map, at the speed of memory.

    cache = FeatureCache("train.h5")
    maps = cache.take(np.array([3, 1, 4]))   # (3, C, H, W)
    labels = cache.labels[[3, 1, 4]]

h5py's fancy indexing costs 14 ms and more for a batch that takes 0.7 ms this way (benchmarks/read_cache.py).
"""

import mmap
import os
import sys
from collections.abc import Callable
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
from cache.format import BLOCK_ROWS, FEATURES, IMAGE_DIGESTS
from cache.gather import gather
from cache.header import Labels
from cache.held import HeldFile
from cache.paths import Paths
from cache.row_reads import read_rows

# Linux refuses a writable private map larger than the memory, unless told to reserve none for it.
# The mmap module knows the constant only from Python 3.13 on.
_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)

AT_ONCE = 64
"""Blocks that are checked between two reports of how many were."""


class FeatureCache:
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

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_fingerprint": self._fingerprint}

    def __repr__(self) -> str:
        return f"FeatureCache({str(self.path)!r}: {self.dtype} {self.shape})"

    def __len__(self) -> int:
        return self.shape[0]

    @cached_property
    def _file(self) -> HeldFile:
        _refuse_absent(self.path)
        return HeldFile(self.path, self._fingerprint)

    @property
    def _contents(self) -> Contents:
        return self._file.contents

    @cached_property
    def _verified(self) -> NDArray[np.bool_]:
        """Which blocks were checked here, (B,)."""
        return np.zeros(self.blocks, np.bool_)

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """(N, V, C, H, W): images, views, channels, rows and columns of a map."""
        return self._contents.header.shape

    @property
    def dtype(self) -> str:
        """float16, float32 or bfloat16."""
        return self._contents.header.dtype

    @property
    def labels(self) -> Labels:
        """(N,) int64 indices into `classes`; multi-label, (N, K) int8, a column for each class: 1 present,
        0 absent, -1 not counted. Read-only.
        """
        return self._contents.header.labels

    @property
    def multi_label(self) -> bool:
        """Whether an image has any number of classes: `labels` is (N, K) and not (N,)."""
        return self._contents.header.multi_label

    @property
    def paths(self) -> Paths:
        """The N images, relative to the dataset's folder. Indexes, iterates and compares as a list does."""
        return Paths.of(self._contents.header.paths)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._contents.header.classes)

    @property
    def identity(self) -> dict[str, Any]:
        """What the features were made from."""
        return self._contents.header.identity

    @property
    def notes(self) -> dict[str, Any]:
        """Facts about the making that aren't identity."""
        return self._contents.header.notes

    @property
    def key(self) -> str:
        """SHA-256 of identity, shape, dtype and paths, in hexadecimal."""
        return self._contents.header.key

    @property
    def images_digest(self) -> str:
        """SHA-256 over `image_digests`, in hexadecimal: which image contents the features were made from."""
        return self._contents.images.hex()

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

    def take(
        self, rows: ArrayLike, view: int | slice | NDArray[Any] | None = 0, out: Raw | None = None
    ) -> Raw:
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

    def read(
        self, rows: ArrayLike, view: int | slice | NDArray[Any] | None = 0, out: Raw | None = None
    ) -> Raw:
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
                blocks = np.unique(self._checked(rows) // BLOCK_ROWS)
                blocks = blocks[~self._verified[blocks]]
            for start in range(0, len(blocks), AT_ONCE):
                some = blocks[start : start + AT_ONCE].tolist()
                check_blocks(fd, self._contents.layout, self._contents.digests, some, str(self.path))
                watch(start + len(some))
        self._verified[blocks] = True

    def _places(
        self, rows: ArrayLike, view: int | slice | NDArray[Any] | None, out: Raw | None
    ) -> tuple[NDArray[np.intp], Raw]:
        """What `take` gathers: positions of single maps, or of all maps of a row, and where they go."""
        index, raw = self._checked(rows), self._contents.layout.dtype.raw
        _, views, *map_shape = self.shape
        view = slice(None) if view is None else view
        if isinstance(view, slice) and range(views)[view] == range(views):
            shape = (index.size, views, *map_shape)
        else:
            # One view of every image isn't contiguous, and np.take would copy it all; rows × views is.
            index = index[:, None] if isinstance(view, slice) else index
            index = index * views + np.arange(views)[view]
            index, shape = index.reshape(-1), (*index.shape, *map_shape)
        if out is None:
            out = np.empty(shape, raw)
        elif out.shape != shape or out.dtype != raw or not out.flags.c_contiguous:
            raise ValueError(f"out: expected a contiguous {raw} array of shape {shape}")
        return index, out

    def _checked(self, rows: ArrayLike) -> NDArray[np.intp]:
        index = np.asarray(rows)
        if index.shape == (0,):
            return index.astype(np.intp)
        if index.ndim != 1 or index.dtype.kind not in "iu" or index.min() < 0 or index.max() >= len(self):
            raise IndexError(f"{self.path}: rows: expected a list of integers from 0 to {len(self) - 1}")
        return index.astype(np.intp, copy=False)

    def _opened(self) -> AbstractContextManager[int]:
        return self._file.opened()


def _refuse_absent(path: Path) -> None:
    if path.exists() and path.suffix != ".part":
        return
    is_begun = path.exists() or path.with_name(path.name + ".part").exists()
    state = (
        "not complete yet; run the same extraction again, it goes on where it stopped"
        if is_begun
        else "no such file; run extract_features.py to make it"
    )
    raise CacheError(f"{path}: {state}")
