"""A cache in several files that a manifest lists (FORMAT.md §7).

What is asked of it is shared out among the files. The structure of a file is read when it is first needed, so
that opening takes as long as finding out that all of them are there.
"""

import dataclasses
import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache.digests import check_blocks
from cache.dtypes import DTYPES, Raw
from cache.errors import CacheError
from cache.format import BLOCK_ROWS, FEATURES, block_count
from cache.header import CacheHeader
from cache.index_file import IndexFile
from cache.manifest import Manifest
from cache.manifest_checks import read_manifest
from cache.row_reads import read_rows
from cache.shard_file import ShardFile
from cache.shard_maps import ShardMaps
from cache.store import Store
from cache.whole_header import WholeHeader

OPENING, AT_A_TIME = 8, 64
"""Threads that look for files, which take milliseconds to find on a network, and how many each looks for."""
THREADS, TASK = 16, 8
"""Threads that check blocks, and how many blocks a thread is given at a time."""


class ManyFiles(Store):
    """Raises: CacheError when the manifest or a file of it is missing, damaged, or another than expected."""

    def __init__(self, path: Path, fingerprint: bytes | None) -> None:
        self.path = path
        self.manifest, data = read_manifest(path)
        self.fingerprint = xxhash.xxh3_128_digest(data)
        if fingerprint not in (None, self.fingerprint):
            raise CacheError(
                f"{path}: another manifest took its place since it was opened; open it again, or run the "
                "same command again"
            )
        self.files = _open(path.parent, self.manifest)
        self.index = IndexFile(path, self.manifest)
        self.images, self.row_bytes = self.manifest.images, self.manifest.row_bytes
        self.key, self._header = self.manifest.key, WholeHeader(self.manifest, self.files, self.index)
        ranges = [shard.rows for shard in self.manifest.shards]
        self._maps = ShardMaps(self.files, self.manifest.shape[1:], DTYPES[self.manifest.dtype].raw)
        self._begins = np.array([rows.start for rows in ranges], np.intp)
        counts = [block_count(len(rows)) for rows in ranges]
        self._first_blocks = np.concatenate([[0], np.cumsum(counts)]).astype(np.intp)
        self.blocks = int(self._first_blocks[-1])

    @property
    def header(self) -> WholeHeader:
        return self._header

    def whole_header(self) -> CacheHeader:
        """The header that a single file of all these rows has. Raises: CacheError as `WholeHeader.paths`."""
        own = self._header
        return dataclasses.replace(
            self.files[0].header(),
            shape=own.shape,
            labels=own.labels,
            paths=own.paths,
            classes=own.classes,
            identity=own.identity,
            notes=own.notes,
        )

    def places(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        return rows if self.index.rows is None else self.index.rows[rows]

    @property
    def shards(self) -> dict[Path, range]:
        return {file.path: file.shard.rows for file in self.files}

    def image_digests(self) -> NDArray[np.uint8]:
        every = np.concatenate([file.image_digests() for file in self.files])
        return every if self.index.rows is None else every[self.index.rows]

    def features(self) -> Raw:
        whole = self._maps.whole() if self.index.rows is None else None
        if whole is None:  # rows that lie in several places have no map of their own
            whole = np.empty(self.manifest.shape, DTYPES[self.manifest.dtype].raw)
            self.read(self.places(np.arange(len(whole))), whole)
        return whole

    def take(self, index: NDArray[np.intp], out: Raw) -> None:
        self._maps.take(index, out)

    def read(self, index: NDArray[np.intp], out: Raw) -> None:
        items = out.reshape(index.size, -1)
        for number, where, inside in self._maps.shared_out(index, out.nbytes // index.size):
            file, some = self.files[number], np.empty((len(where), items.shape[1]), out.dtype)
            offset = file.layout[FEATURES].offset
            with file.opened() as fd:
                try:
                    read_rows(fd, offset, inside, some)
                except (OSError, EOFError) as error:
                    raise CacheError(f"{file.path}: can't be read: {error}") from error
            file.refuse_changed()
            items[where] = some

    def touch(self, index: NDArray[np.intp], nbytes: int) -> None:
        self._maps.touch(index, nbytes)

    def release(self) -> None:
        self._maps.release()

    def blocks_of(self, places: NDArray[np.intp]) -> NDArray[np.intp]:
        number = np.searchsorted(self._begins, places, side="right") - 1
        return np.unique(self._first_blocks[number] + (places - self._begins[number]) // BLOCK_ROWS)

    def check(self, blocks: NDArray[np.intp], watch: Callable[[int], object]) -> None:
        bounds, done = np.searchsorted(blocks, self._first_blocks), 0
        tasks = list[tuple[ShardFile, list[int]]]()
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            inside = (blocks[bounds[number] : bounds[number + 1]] - self._first_blocks[number]).tolist()
            tasks += [(self.files[number], inside[i : i + TASK]) for i in range(0, len(inside), TASK)]
        pool = ThreadPoolExecutor(max(1, min(THREADS, os.cpu_count() or 1, len(tasks))))
        try:
            for checked in pool.map(_check_some, tasks):
                done += checked
                watch(done)
        finally:
            pool.shutdown(cancel_futures=True)

    def check_headers(self) -> None:
        self._header.check()
        digest = hashlib.sha256()
        if self.index.rows is None:
            for file in self.files:
                digest.update(file.image_digests().data)
        else:
            digest.update(np.ascontiguousarray(self.image_digests()).data)
        if self.images != digest.digest():
            raise CacheError(
                f"{self.path}: damaged: its images digest isn't that of its shards' images; delete it and "
                "run the same extraction again"
            )


def _open(folder: Path, manifest: Manifest) -> list[ShardFile]:
    """The files of a manifest, in order. Raises: CacheError naming the one that isn't as it should be."""
    shards = manifest.shards

    def some(start: int) -> list[ShardFile]:
        return [ShardFile(folder, shard, manifest) for shard in shards[start : start + AT_A_TIME]]

    starts = range(0, len(shards), AT_A_TIME)
    if len(starts) == 1:
        return some(0)
    with ThreadPoolExecutor(min(OPENING, len(starts))) as pool:
        return [file for files in pool.map(some, starts) for file in files]


def _check_some(task: tuple[ShardFile, list[int]]) -> int:
    """Compare some blocks of a file with their digests; gives how many. Raises: CacheError."""
    file, blocks = task
    with file.opened() as fd:
        check_blocks(fd, file.layout, file.digests, blocks, str(file.path), threads=1)
    return len(blocks)
