"""Small caches for the tests: their header and features follow from a few numbers, in every process alike."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import CacheHeader, CacheWriter

IDENTITY = {"trunk": {"name": "net", "version": 1, "weights": "ab" * 32}, "transform": {"mean": [0.5, 0.25]}}
BLOCKS = [range(1024), range(1024, 2048), range(2048, 2500)]
"""Those of `header()`."""


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
    if changes.get("dtype") == "int8":
        fields["scales"] = some_scales(map_shape[0])
    return CacheHeader(**fields | changes)


def some_scales(channels: int) -> NDArray[np.float32]:
    """(2, channels): 8 in 255 steps, less than that by channel, zero points from -128 to 127."""
    steps = 8 / 255 / (1 + np.arange(channels) / 8)
    return np.stack([steps, -128 + np.arange(channels) * 255 // max(1, channels - 1)]).astype(np.float32)


def several_labels(rows: int = 2500, classes: int = 3) -> NDArray[np.int8]:
    """(rows, classes) of 1, 0 and -1; the first three rows are all 0, all -1 and all 1."""
    table = (_numbers(range(rows), classes) % 3).astype(np.int8) - 1
    for row, value in enumerate((0, -1, 1)[:rows]):
        table[row] = value
    return table


def features(header: CacheHeader, rows: range) -> NDArray[np.float32]:
    """(n, V, C, H, W) between -4 and 4, the same for a row however it is asked for."""
    numbers = _numbers(rows, int(np.prod(header.shape[1:]))) % 65_521
    return (numbers / 8190 - 4).astype(np.float32).reshape(-1, *header.shape[1:])


def image_digests(rows: range) -> NDArray[np.uint8]:
    """(n, 16)"""
    return (_numbers(rows, 16) % 251).astype(np.uint8)


def _numbers(rows: range, per_row: int) -> NDArray[np.uint64]:
    """(n, per_row) well mixed 64-bit numbers (Knuth's multiplicative hash)."""
    index = np.arange(rows.start * per_row, rows.stop * per_row, dtype=np.uint64)
    return (index * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(20)).reshape(-1, per_row)


def extract(path: Path, header: CacheHeader, *, stop_after: int | None = None) -> Path:
    """What stage one does: write what is missing, publish. Given `stop_after` blocks, it doesn't publish."""
    with CacheWriter(path, header) as writer:
        fill(writer, header, writer.missing[:stop_after])
        return path if stop_after is not None else writer.publish()


def fill(writer: CacheWriter, header: CacheHeader, blocks: list[range]) -> None:
    for rows in blocks:
        writer.write(rows, features(header, rows), image_digests(rows))


def flip(path: Path, bit: int) -> None:
    """Change one bit of a file as a failing disk does, which leaves no trace in the file's times."""
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
