"""Average a cache's maps to fewer cells, so that maps of several sizes can be cut into the same crops.

CACHE/{train,test}.h5, maps C×H×W  →  CACHE-NxN/{train,test}.h5, maps C×N×N
"""

from pathlib import Path

from torch.nn.functional import adaptive_avg_pool2d

from cache import CacheHeader, CacheWriter, FeatureCache, split_path
from pipeline.errors import ConfigError
from pipeline.maps.stored import decoded, to_tensor


def pool(folder: Path, cells: int) -> Path:
    """Average the maps of both splits to `cells`×`cells`; gives the folder that has them, which is the same
    one where they have this size already.

    Raises: ConfigError when they have fewer cells; CacheError, StaleCacheError.
    """
    caches = [FeatureCache(split_path(folder, name)) for name in ("train", "test")]
    height, width = caches[0].shape[3:]
    if (height, width) == (cells, cells):
        return folder
    if min(height, width) < cells:
        raise ConfigError(
            f"--map-cells: expected at most {min(height, width)}, for maps of {height}×{width} cells, found "
            f"{cells}; give fewer cells or a larger --image-px"
        )
    pooled = folder.with_name(f"{folder.name}-{cells}x{cells}")
    for cache in caches:
        _pool(cache, pooled / f"{cache.path.stem}.h5", cells)
    return pooled


def _pool(cache: FeatureCache, path: Path, cells: int) -> None:
    header = CacheHeader(
        shape=(*cache.shape[:3], cells, cells),
        dtype=cache.dtype,
        labels=cache.labels,
        paths=cache.paths,
        classes=cache.classes,
        identity={**cache.identity, "map_cells": cells},
        notes=cache.notes,
        scales=cache.scales,
        flags={"map_cells": "--map-cells"},
    )
    if CacheWriter.status(path, header) == "complete":
        return
    with CacheWriter(path, header) as writer:
        for rows in writer.missing:
            cache.verify(rows)
            maps = decoded(to_tensor(cache.take(rows, None), cache.dtype), cache.scales).float()
            averages = adaptive_avg_pool2d(maps.flatten(0, 1), cells).unflatten(0, maps.shape[:2])
            writer.write(rows, averages.numpy(), cache.image_digests[rows.start : rows.stop])
        writer.publish()
