"""Rewrite a split as one file, or as shards: the bytes of one extracted that way in the first place.

Interrupted anywhere, the same call goes on where it stopped; what it reads is never changed.
"""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from cache.errors import CacheError
from cache.header import CacheHeader
from cache.manifest_writing import write_manifest
from cache.reader import FeatureCache
from cache.sharding import shard_header, shard_paths, shard_ranges
from cache.writer import CacheWriter

Watch = Callable[[float], object]


def join(path: Path, folder: Path, watch: Watch = lambda share: None) -> Path:
    """Write a split as FOLDER/NAME.h5; gives that file. `watch` is told which share is done.

    Raises: CacheError when it is damaged, another cache stands there, or the disk fails.
    """
    cache, target = FeatureCache(path), folder / f"{path.stem}.h5"
    _refuse_others(target, [target])
    header = header_of(cache)
    if CacheWriter.status(target, header) != "complete":
        _copy(cache, target, header, range(len(cache)), watch)
    return target


def split(path: Path, folder: Path, shards: int, watch: Watch = lambda share: None) -> Path:
    """Write a split as so many shards (fewer, if it has fewer blocks) and FOLDER/NAME.json; gives that.

    Raises: as `join`.
    """
    cache, target = FeatureCache(path), folder / f"{path.stem}.json"
    whole, ranges = header_of(cache), shard_ranges(len(cache), shards)
    paths = shard_paths(target, len(ranges))
    _refuse_others(target, [target, *paths])
    for shard, rows in zip(paths, ranges, strict=True):
        header = shard_header(whole, rows)
        if CacheWriter.status(shard, header) != "complete":
            _copy(cache, shard, header, rows, watch)
    return write_manifest(target, whole, paths)


def header_of(cache: FeatureCache) -> CacheHeader:
    """The header with which a cache's rows are written into one file."""
    return CacheHeader(
        shape=cache.shape,
        dtype=cache.dtype,
        labels=cache.labels,
        paths=cache.paths,
        classes=cache.classes,
        identity=cache.identity,
        notes=cache.notes,
        scales=cache.scales,
    )


def _refuse_others(target: Path, own: Sequence[Path]) -> None:
    """Raises: CacheError where the folder would have two caches of one split, or files of two."""
    of_split = re.compile(re.escape(target.stem) + r"(-\d{5,}-of-\d{5,})?\.(h5|json)(\.part)?")
    names = {path.name for path in own}
    found = os.listdir(target.parent) if target.parent.is_dir() else []
    for there in sorted(found, key=lambda name: (len(name), name)):
        if of_split.fullmatch(there) and there.removesuffix(".part") not in names:
            raise CacheError(f"{target}: {there} is there, another cache of the split; give another --to")


def _copy(cache: FeatureCache, path: Path, header: CacheHeader, rows: range, watch: Watch) -> None:
    """Write rows of a cache into a file of their own, checked on the way."""
    with CacheWriter(path, header) as writer:
        for block in writer.missing:
            whole = range(rows.start + block.start, rows.start + block.stop)
            cache.verify(whole)
            features = cache.decode(cache.read(whole, None))
            writer.write(block, features, cache.image_digests[whole.start : whole.stop])
            watch(whole.stop / len(cache))
        writer.publish()
