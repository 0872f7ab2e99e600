"""Random batches of a split of several files against the same split in one.

    python -m benchmarks.shards [--quick]

512 rows of 256×5×5 float16 at a time, in random order, from 64 files and from one; warm, in turns, each batch
compared, median times. The other way is what `take` could do without one range of addresses for all files: an
array for each file, and a part of the batch from each.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alone import main, row
from benchmarks.read_cache import BATCH, MAP, Take, make_cache, race
from cache import FeatureCache
from cache.resharding import split

SHARDS = 64


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit (ms per batch; the ratio is theirs / ours)."""
    rows, batches = SHARDS * (1024 if quick else 2048), 20 if quick else 200
    with tempfile.TemporaryDirectory() as folder:
        one = make_cache(Path(folder) / "train.h5", rows)
        many = FeatureCache(split(one.path, Path(folder) / "shards", SHARDS))
        one.take(np.arange(rows)[:1])
        buffers = [np.empty((BATCH, *MAP), np.float16) for _ in range(3)]
        ways: dict[str, Take] = {
            "one file": lambda chosen: one.take(chosen, out=buffers[0]),
            "shards": lambda chosen: many.take(chosen, out=buffers[1]),
            "an array each": array_each(many, buffers[2]),
        }
        times = race(ways, rows, batches)
    name = f"take of {BATCH} rows from {len(many.shards)} files, against"
    return [
        row(f"{name} one file", times["shards"], times["one file"], 0.9, "ms per batch"),
        row(f"{name} an array of each", times["shards"], times["an array each"], 1.0, "ms per batch"),
    ]


def array_each(cache: FeatureCache, out: np.ndarray) -> Take:
    arrays = [FeatureCache(path).features[:, 0] for path in cache.shards]
    begins = np.array([rows.start for rows in cache.shards.values()])

    def take(chosen: np.ndarray) -> np.ndarray:
        numbers = np.searchsorted(begins, chosen, side="right") - 1
        for number in np.unique(numbers).tolist():
            where = numbers == number
            out[where] = arrays[number][chosen[where] - begins[number]]
        return out

    return take


if __name__ == "__main__":
    main(run)
