"""Small caches for the tests: their header and features follow from a few numbers, in every process alike."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import CacheHeader, CacheWriter

IDENTITY = {"trunk": {"name": "net", "version": 1, "weights": "ab" * 32}, "transform": {"mean": [0.5, 0.25]}}


def header(
    rows: int = 2500, views: int = 1, map_shape: tuple[int, int, int] = (2, 2, 2), **changes: Any
) -> CacheHeader:
    """Two whole blocks and a short one, three classes; any field can be changed."""
    fields: dict[str, Any] = {
        "shape": (rows, views, *map_shape),
        "dtype": "float16",
        "labels": np.arange(rows) % 3,
        "paths": [f"train/{i % 3}/{i:05}.png" for i in range(rows)],
        "classes": ["cat", "dog", "größer"],
        "identity": IDENTITY,
        "notes": {"skipped": ["train/0/broken.png"]},
    }
    return CacheHeader(**fields | changes)


def features(header: CacheHeader, rows: Iterable[int]) -> NDArray[np.float32]:
    """(n, V, C, H, W), the same for a row however it is asked for."""
    per_row = np.prod(header.shape[1:])
    values = [np.random.default_rng(row).standard_normal(per_row, np.float32) for row in rows]
    return np.stack(values).reshape(-1, *header.shape[1:])


def image_digests(rows: Iterable[int]) -> NDArray[np.uint8]:
    """(n, 16)"""
    return np.stack([np.random.default_rng([row, 1]).integers(0, 256, 16, np.uint8) for row in rows])


def extract(path: Path, header: CacheHeader, *, stop_after: int | None = None) -> Path:
    """What stage one does: write what is missing, publish. Given `stop_after` blocks, it doesn't publish."""
    with CacheWriter(path, header) as writer:
        for rows in writer.missing[:stop_after]:
            writer.write(rows, features(header, rows), image_digests(rows))
        return path if stop_after is not None else writer.publish()
