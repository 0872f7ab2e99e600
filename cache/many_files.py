"""A cache in several files that a manifest lists (FORMAT.md §7).

What is asked of it is shared out among the files. The structure of a file is read when it is first needed, so
that opening takes as long as finding out that all of them are there.
"""

import dataclasses
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache.digests import check_blocks
from cache.dtypes import DTYPES, Raw
from cache.errors import CacheError
from cache.format import BLOCK_ROWS, FEATURES, block_count
from cache.header import CacheHeader, Labels
from cache.index_file import IndexFile
from cache.manifest import Manifest
from cache.manifest_checks import read_manifest
from cache.paths import Paths
from cache.row_reads import read_rows
from cache.shard_file import ShardFile
from cache.shard_maps import ShardMaps
from cache.store import AT_ONCE, Store

_OPENING = 8  # threads: a file on a network takes milliseconds to find


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
        with ThreadPoolExecutor(min(_OPENING, len(self.manifest.shards))) as pool:
            self.files = list(
                pool.map(lambda shard: ShardFile(path.parent, shard, self.manifest), self.manifest.shards)
            )
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
    def header(self) -> "WholeHeader":
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
        done, bounds = 0, np.searchsorted(blocks, self._first_blocks)
        for number in np.flatnonzero(np.diff(bounds)).tolist():
            file, inside = self.files[number], blocks[bounds[number] : bounds[number + 1]]
            inside = inside - self._first_blocks[number]
            with file.opened() as fd:
                for start in range(0, len(inside), AT_ONCE):
                    some = inside[start : start + AT_ONCE].tolist()
                    check_blocks(fd, file.layout, file.digests, some, str(file.path))
                    done += len(some)
                    watch(done)

    def check_headers(self) -> None:
        for file in self.files:
            file.header()
        self._header.check()
        if self.images != digest_of_images(self.image_digests()):
            raise CacheError(f"{self.path}: damaged: 'images' isn't the digest of its shards' image digests")


class WholeHeader:
    """The header of a split of several files. Labels and paths are put together when first asked for."""

    def __init__(self, manifest: Manifest, files: list[ShardFile], index: IndexFile) -> None:
        self._manifest, self._files, self._index = manifest, files, index
        self.shape, self.dtype = manifest.shape, manifest.dtype
        self.classes, self.identity, self.notes = manifest.classes, manifest.identity, manifest.notes
        self.multi_label, self.scales = manifest.multi_label, manifest.scales

    @property
    def labels(self) -> Labels:
        """As those of `CacheHeader`."""
        return self._labels

    @cached_property
    def _labels(self) -> Labels:
        if (stored := self._index.labels) is not None:
            return stored
        labels: Labels = np.concatenate([file.header().labels for file in self._files])  # pyright: ignore
        labels.flags.writeable = False
        return labels

    @cached_property
    def paths(self) -> Paths:
        """As those of `CacheHeader`. Raises: CacheError when they aren't those of the manifest's key."""
        paths = self._index.paths
        if paths is None:
            paths = Paths.stored(b"".join(Paths.of(file.header().paths).data for file in self._files))
        self._index.refuse_other_paths(paths)
        return paths

    def check(self) -> None:
        """Read all of it. Raises: CacheError when something doesn't fit."""
        _ = self.labels, self.paths


def digest_of_images(image_digests: NDArray[np.uint8]) -> bytes:
    """The images digest of all of them, (N, 16)."""
    return hashlib.sha256(image_digests.tobytes()).digest()
