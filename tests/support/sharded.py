"""The small caches of `samples`, in several files."""

from pathlib import Path

from cache import CacheHeader, CacheWriter, shard_header, shard_paths, shard_ranges, write_manifest
from support.samples import features, image_digests


def extract_shards(path: Path, header: CacheHeader, count: int) -> Path:
    """What `samples.extract` writes, in `count` files and a manifest."""
    ranges = shard_ranges(header.shape[0], count)
    paths = shard_paths(path, len(ranges))
    for shard, rows in zip(paths, ranges, strict=True):
        with CacheWriter(shard, shard_header(header, rows)) as writer:
            for block in writer.missing:
                whole = range(rows.start + block.start, rows.start + block.stop)
                writer.write(block, features(header, whole), image_digests(whole))
            writer.publish()
    return write_manifest(path, header, paths)
