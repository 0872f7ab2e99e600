"""Rewrite a split as one file, or as shards: the bytes of one extracted that way in the first place.

Interrupted anywhere, the same call goes on where it stopped; what it reads is never changed.
"""

from collections.abc import Callable
from pathlib import Path

from cache.errors import CacheError
from cache.header import CacheHeader
from cache.manifest_writing import write_manifest
from cache.reader import FeatureCache
from cache.sharding import shard_header, shard_paths, shard_ranges
from cache.splits import CACHE_SUFFIXES
from cache.writer import CacheWriter

Watch = Callable[[float], object]


def join(path: Path, folder: Path, watch: Watch = lambda share: None) -> Path:
    """Write a split as FOLDER/NAME.h5; gives that file. `watch` is told which share is done.

    Raises: CacheError when it is damaged, another cache stands there, or the disk fails.
    """
    cache, target = FeatureCache(path), _target(path, folder, ".h5")
    header = header_of(cache)
    if CacheWriter.status(target, header) != "complete":
        _copy(cache, target, header, range(len(cache)), watch)
    return target


def split(path: Path, folder: Path, shards: int, watch: Watch = lambda share: None) -> Path:
    """Write a split as so many shards (fewer, if it has fewer blocks) and FOLDER/NAME.json; gives that.

    Raises: as `join`.
    """
    cache, target = FeatureCache(path), _target(path, folder, ".json")
    whole, ranges = header_of(cache), shard_ranges(len(cache), shards)
    paths = shard_paths(target, len(ranges))
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


def _target(path: Path, folder: Path, suffix: str) -> Path:
    """The file to write. Raises: CacheError where the folder would have two caches of one split then."""
    target = folder / f"{path.stem}{suffix}"
    others = [folder / f"{path.stem}{other}" for other in CACHE_SUFFIXES if other != suffix]
    if there := [other for other in others if other.exists()]:
        raise CacheError(f"{target}: {there[0].name} is there, another cache of the split; give another --to")
    return target


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
