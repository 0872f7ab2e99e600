"""A cache in one file."""

import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.address_range import NORESERVE
from cache.contents import Contents, read_digests, read_published
from cache.digests import check_blocks
from cache.dtypes import Raw
from cache.errors import CacheError
from cache.format import BLOCK_ROWS, FEATURES, IMAGE_DIGESTS, Layout
from cache.gather import gather
from cache.header import CacheHeader
from cache.held import HeldFile
from cache.row_reads import read_rows
from cache.store import AT_ONCE, PAGE, Store


class OneFile(Store):
    """Holds a descriptor while it lives, and gives nothing of another file that has its name by then.

    fingerprint: that of the file expected; None takes any. Raises: CacheError as `HeldFile`.
    """

    def __init__(self, path: Path, fingerprint: bytes | None) -> None:
        self.file = HeldFile(path, fingerprint)
        self.fingerprint = self.contents.fingerprint
        self.key, self.images = self.contents.header.key, self.contents.images
        self.row_bytes = self.contents.layout.row_bytes
        self._mapped: Raw | None = None
        self.blocks = self.contents.layout.blocks

    @property
    def contents(self) -> Contents:
        return self.file.contents

    @property
    def header(self) -> CacheHeader:
        return self.contents.header

    def places(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return rows

    @property
    def shards(self) -> dict[Path, range]:
        return {self.file.path: range(self.header.shape[0])}

    def image_digests(self) -> NDArray[np.uint8]:
        with self.file.opened() as fd:
            return read_digests(fd, self.contents.layout, IMAGE_DIGESTS)

    def features(self) -> Raw:
        if self._mapped is None:
            with self.file.opened() as fd:
                self._mapped = map_features(fd, self.contents.layout)
        return self._mapped

    def take(self, index: NDArray[np.intp], out: Raw) -> None:
        items = self.features().reshape(-1, out.size // index.size)
        gather(items, index, out.reshape(index.size, -1))
        self.file.refuse_changed()

    def read(self, index: NDArray[np.intp], out: Raw) -> None:
        with self.file.opened() as fd:
            try:
                read_rows(fd, self.contents.layout[FEATURES].offset, index, out)
            except (OSError, EOFError) as error:
                raise CacheError(f"{self.file.path}: can't be read: {error}") from error
        self.file.refuse_changed()

    def touch(self, index: NDArray[np.intp], nbytes: int) -> None:
        touch(self.features(), index, nbytes)

    def release(self) -> None:
        self._mapped = None

    def blocks_of(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.unique(places // BLOCK_ROWS)

    def check(self, blocks: NDArray[np.intp], watch: Callable[[int], object]) -> None:
        with self.file.opened() as fd:
            for start in range(0, len(blocks), AT_ONCE):
                some = blocks[start : start + AT_ONCE].tolist()
                check_blocks(fd, self.contents.layout, self.contents.digests, some, str(self.file.path))
                watch(start + len(some))

    def check_headers(self) -> None:
        with self.file.opened() as fd:
            read_published(fd, str(self.file.path))


def map_features(fd: int, layout: Layout) -> Raw:
    """(N, V, C, H, W) of a file of this layout, mapped privately."""
    flags = mmap.MAP_PRIVATE | NORESERVE
    mapped = mmap.mmap(fd, layout.end, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    count = layout[FEATURES].nbytes // layout.dtype.raw.itemsize
    return np.frombuffer(mapped, layout.dtype.raw, count, layout[FEATURES].offset).reshape(layout.shape)


def touch(features: Raw, index: NDArray[np.intp], nbytes: int) -> None:
    """Look at a byte of each page of some items of so many bytes."""
    flat = features.reshape(-1).view(np.uint8)
    steps = np.append(np.arange(0, nbytes, PAGE), nbytes - 1)
    flat.take(index[:, None] * nbytes + steps)
