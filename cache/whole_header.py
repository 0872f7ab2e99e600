"""The header of a split of several files, put together from theirs and the row index."""

from functools import cached_property

import numpy as np

from cache.header import Labels
from cache.index_file import IndexFile
from cache.manifest import Manifest
from cache.paths import Paths, paths_sha256
from cache.shard_file import ShardFile


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
        self._index.refuse_other_paths(len(paths), paths.sha256)
        self._index.refuse_unusable(paths)
        return paths

    def check(self) -> None:
        """Compare all of it with its digests, a file at a time. Raises: CacheError when something differs."""
        paths = (Paths.of(file.header().paths) for file in self._files)  # which refuses others' labels
        if self._index.paths is None:
            self._index.refuse_other_paths(
                sum(len(file.shard.rows) for file in self._files), paths_sha256(paths)
            )
        else:
            _ = [len(some) for some in paths], self.paths, self._index.labels
