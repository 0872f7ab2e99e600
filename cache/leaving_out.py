"""Leave out of a split what lay in files that are gone: what is left is a smaller split, that can grow."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache.earlier import keep_earlier
from cache.header import CacheHeader, Labels
from cache.index_file import IndexFile
from cache.manifest_checks import read_manifest
from cache.manifest_writing import write_manifest
from cache.paths import Paths
from cache.shard_file import ShardFile


def leave_out(path: Path, gone: Collection[Path], varying: Collection[str]) -> bool:
    """Write a manifest anew, over those of its files that aren't `gone`, and keep the one of before as an
    earlier one. Where no row of the split is in them there is no manifest any more, which is False.

    varying: as of `write_manifest`. Raises: CacheError when what is left is damaged.
    """
    manifest, _ = read_manifest(path)
    index, shards = IndexFile(path, manifest), manifest.shards
    rows = np.arange(manifest.places) if index.rows is None else index.rows
    is_there = np.array([path.with_name(shard.file) not in gone for shard in shards])
    counts = np.array([len(shard.rows) for shard in shards])
    kept = is_there.repeat(counts)[rows]
    if not kept.any():
        keep_earlier(path)
        path.unlink()
        return False
    files = [ShardFile(path.parent, shards[at], manifest) for at in np.flatnonzero(is_there)]
    labels, paths = _listed(index, files, kept)
    header = CacheHeader(
        shape=(len(labels), *manifest.shape[1:]),
        dtype=manifest.dtype,
        labels=labels,
        paths=paths,
        classes=manifest.classes,
        identity=manifest.identity,
        notes=manifest.notes,
        scales=manifest.scales,
    )
    begins = np.cumsum(counts * is_there) - counts * is_there
    moved: NDArray[np.int64] = begins - np.array([shard.rows.start for shard in shards])
    places = (rows + moved.repeat(counts)[rows])[kept]
    write_manifest(path, header, [file.path for file in files], places, {*varying, *manifest.varying})
    return True


def _listed(index: IndexFile, files: Sequence[ShardFile], kept: NDArray[np.bool_]) -> tuple[Labels, Paths]:
    """Labels and paths of the rows that are kept: as the index says, or the files that hold them."""
    headers = [file.header() for file in files] if index.labels is None or index.paths is None else []
    paths = Paths(path for header in headers for path in header.paths)
    if index.paths is not None:
        paths = index.paths.take(np.flatnonzero(kept))
    if index.labels is not None:
        return index.labels[kept], paths
    labels: Labels = np.concatenate([header.labels for header in headers])  # pyright: ignore
    return labels, paths
