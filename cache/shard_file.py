"""One file of a manifest: known to be there and the right one from the start on, read when it is needed."""

import errno
import os
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache.contents import read_digests, read_published
from cache.disk import read_all
from cache.errors import CacheError
from cache.format import DIGESTS, HEADER_DIGESTS, IMAGE_DIGESTS, PROVENANCE, Layout
from cache.hdf5_checks import locate
from cache.header import CacheHeader
from cache.identity import differences
from cache.manifest import Manifest, Shard
from cache.scales import has_scales

_ID = tuple[int, int, int, int]


class ShardFile:
    """Raises: CacheError naming the file when it is missing, a link, or another than the manifest lists."""

    def __init__(self, folder: Path, shard: Shard, manifest: Manifest) -> None:
        self.path, self.shard, self._manifest = folder / shard.file, shard, manifest
        self._id: _ID | None = None
        self._place, self._held = str(self.path), -1
        with self.opened():
            pass

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor for reading. Raises: CacheError when the file is another one by now."""
        fd = self._open()
        try:
            found = _id(os.fstat(fd))
            if self._id is None:
                self._check(fd)
                self._id = found
            elif found != self._id:
                raise self._replaced()
            yield fd
        finally:
            os.close(fd)

    def refuse_changed(self) -> None:
        """Raises: CacheError when somebody wrote into the file, or another one took its place."""
        try:
            held = self._held >= 0
            found = os.fstat(self._held) if held else os.stat(self._place, follow_symlinks=False)
        except OSError:
            raise self._replaced() from None
        if _id(found) != self._id:
            raise self._replaced()

    def hold(self) -> None:
        """Keep it open from now on, where the system lets so many files be open."""
        if self._held < 0:
            with self.opened() as fd, suppress(OSError):
                self._held = os.dup(fd)
                weakref.finalize(self, os.close, self._held)

    @property
    def layout(self) -> Layout:
        """Where everything lies in it."""
        return self._structure[0]

    @property
    def digests(self) -> NDArray[np.uint8]:
        """(B, 16) those of its blocks."""
        return self._structure[1]

    def header(self) -> CacheHeader:
        """Its own header. Raises: CacheError when it isn't the manifest's shard."""
        with self.opened() as fd:
            contents = read_published(fd, str(self.path))
        header, whole = contents.header, self._manifest
        if contents.fingerprint != self.shard.fingerprint or header.key != self.shard.key:
            raise self._foreign("it isn't the file that the manifest lists")
        if fields := differences(whole.of_shards(whole.identity), whole.of_shards(header.identity)):
            raise self._foreign(f"made from something else: {'; '.join(fields[:8])}")
        from_shards = whole.index is None or whole.index.labels is None
        if from_shards and (header.classes, header.multi_label) != (whole.classes, whole.multi_label):
            raise self._foreign("it has other classes, or another kind of labels")
        return header

    def image_digests(self) -> NDArray[np.uint8]:
        """(n, 16)"""
        layout = self.layout
        with self.opened() as fd:
            return read_digests(fd, layout, IMAGE_DIGESTS)

    @cached_property
    def _structure(self) -> tuple[Layout, NDArray[np.uint8]]:
        """Raises: CacheError when it isn't the manifest's shard."""
        with self.opened() as fd:
            layout = locate(fd, str(self.path))
            try:
                known = read_all(fd, layout[HEADER_DIGESTS].nbytes, layout[HEADER_DIGESTS].offset)
                digests = read_digests(fd, layout, DIGESTS)
                provenance = bytes(read_all(fd, layout[PROVENANCE].nbytes, layout[PROVENANCE].offset))
            except (OSError, EOFError) as error:
                raise CacheError(f"{self.path}: can't be read: {error}") from error
        if xxhash.xxh3_128_digest(bytes(known) + digests.tobytes()) != self.shard.fingerprint:
            raise self._foreign("it isn't the file that the manifest lists")
        wanted = (len(self.shard.rows), *self._manifest.shape[1:])
        if layout.shape != wanted or layout.dtype.name != self._manifest.dtype:
            raise self._foreign(
                f"expected {self._manifest.dtype} {wanted}, found {layout.dtype.name} {layout.shape}"
            )
        if self._manifest.scales is not None and not has_scales(provenance, self._manifest.scales):
            raise self._foreign("expected the scales that the manifest says, found others")
        return layout, digests

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError as error:
            problem = "missing" if error.errno == errno.ENOENT else error.strerror
            problem = "a link; expected the file itself" if error.errno == errno.ELOOP else problem
            raise CacheError(
                f"{self.path}: a shard of the cache, but {problem}; put it back, or run the same extraction "
                "again"
            ) from error

    def _check(self, fd: int) -> None:
        """What can be seen without reading its structure."""
        found, shard = os.fstat(fd), self.shard
        if not stat.S_ISREG(found.st_mode):
            raise self._foreign("it is a folder or a device")
        if found.st_size != shard.nbytes:
            raise self._foreign(f"expected {shard.nbytes:,} bytes, found {found.st_size:,}")
        try:
            header = bytes(read_all(fd, len(shard.header), shard.header_at))
        except (OSError, EOFError):
            header = b""
        if header != shard.header:
            raise self._foreign("it isn't the file that the manifest lists")

    def _foreign(self, problem: str) -> CacheError:
        return CacheError(
            f"{self.path}: no shard of this cache: {problem}; put the right file there, or delete it and run "
            "the same extraction again"
        )

    def _replaced(self) -> CacheError:
        return CacheError(
            f"{self.path}: another file took its place since it was opened, or somebody wrote into it; open "
            "the cache again, or run the same command again"
        )


def _id(found: os.stat_result) -> _ID:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
