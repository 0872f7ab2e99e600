"""A row index: which rows of the shards a split has, and labels and paths that differ from theirs."""

import os
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache.contents import opened
from cache.disk import read_all
from cache.errors import CacheError
from cache.header import Labels, checked_paths
from cache.manifest import IndexArray, Manifest
from cache.paths import Paths


class IndexFile:
    """The arrays of a manifest's row index; each is read and checked when it is first asked for.

    Raises: CacheError when the file is missing or of another size.
    """

    def __init__(self, manifest_path: Path, manifest: Manifest) -> None:
        self._manifest = manifest
        self.path = manifest_path
        if index := manifest.index:
            self.path = manifest_path.with_name(index.file)
            if self.path.is_symlink() or not self.path.is_file():
                there = os.path.lexists(self.path)
                raise self._damaged(f"expected a file, found {'a link, folder or pipe' if there else 'none'}")
            with opened(self.path) as fd:
                if (size := os.fstat(fd).st_size) != index.nbytes:
                    raise self._damaged(f"expected {index.nbytes:,} bytes, found {size:,}")

    @cached_property
    def rows(self) -> NDArray[np.intp] | None:
        """(N,) the place of each row among those of all shards; None where they lie in order."""
        index = self._manifest.index
        if index is None or index.rows is None:
            return None
        rows = np.frombuffer(self._read(index.rows), "<i8")
        if rows.min() < 0 or rows.max() >= self._manifest.places:
            raise self._damaged(f"rows: expected places from 0 to {self._manifest.places - 1:,}")
        return rows.astype(np.intp, copy=False)

    @cached_property
    def labels(self) -> Labels | None:
        """(N,) or (N, K), read-only; None where they are those of the shards."""
        index, manifest = self._manifest.index, self._manifest
        if index is None or index.labels is None:
            return None
        multi, classes = manifest.multi_label, len(manifest.classes)
        labels = np.frombuffer(self._read(index.labels), np.int8 if multi else "<i8")
        low, high = (-1, 1) if multi else (0, classes - 1)
        if labels.min() < low or labels.max() > high:
            raise self._damaged(f"labels: expected {low} to {high}")
        return labels.reshape(-1, classes) if multi else labels

    @cached_property
    def paths(self) -> Paths | None:
        """N paths; None where they are those of the shards."""
        index = self._manifest.index
        if index is None or index.paths is None:
            return None
        try:
            return Paths.stored(self._read(index.paths))
        except ValueError as error:
            raise self._damaged(str(error)) from None

    def refuse_unusable(self, paths: Paths) -> None:
        """Raises: CacheError when these can't be the paths of a split."""
        try:
            checked_paths(paths, len(paths))
        except CacheError as error:
            raise self._damaged(str(error)) from None

    def refuse_other_paths(self, count: int, sha256: str) -> None:
        """Raises: CacheError when so many paths, of this digest, aren't those of the manifest."""
        if count != self._manifest.shape[0] or sha256 != self._manifest.paths_sha256:
            raise CacheError(
                f"{self.path}: damaged: the paths don't match their digest in the manifest; delete the "
                "manifest and run the same extraction again"
            )

    def _read(self, array: IndexArray) -> bytes:
        with opened(self.path) as fd:
            try:
                data = bytes(read_all(fd, array.nbytes, array.offset))
            except (OSError, EOFError) as error:
                raise CacheError(f"{self.path}: can't be read: {error}") from error
        if xxhash.xxh3_128_digest(data) != array.digest:
            raise self._damaged("it doesn't match its digest in the manifest")
        return data

    def _damaged(self, problem: str) -> CacheError:
        return CacheError(
            f"{self.path}: no usable row index: {problem}; delete the manifest and run the same extraction "
            "again"
        )
