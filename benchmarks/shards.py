"""Random batches of a split of several files against the same split in one.

    python -m benchmarks.shards [--quick]

512 rows of 256×5×5 float16 at a time, in random order, from 64 files and from one; warm, in turns of some
batches, as a loop takes them, all rows compared, median times. The other way is what `take` could do without
one range of addresses for all files: an array for each file, and a part of the batch from each.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alone import main, row
from benchmarks.read_cache import BATCH, MAP, Take, make_cache
from cache import FeatureCache
from cache.resharding import split

SHARDS, TURN = 64, 16
"""Files, and batches of a turn: whether files have changed is asked every 20 ms, not for each batch."""


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit (ms per batch; the ratio is theirs / ours)."""
    rows, turns = SHARDS * (1024 if quick else 2048), 4 if quick else 25
    with tempfile.TemporaryDirectory() as folder:
        one = make_cache(Path(folder) / "train.h5", rows)
        many = FeatureCache(split(one.path, Path(folder) / "shards", SHARDS))
        buffers = [np.empty((BATCH, *MAP), np.float16) for _ in range(3)]
        ways: dict[str, Take] = {
            "one file": lambda chosen: one.take(chosen, out=buffers[0]),
            "shards": lambda chosen: many.take(chosen, out=buffers[1]),
            "an array each": array_each(many, buffers[2]),
        }
        times = race(ways, rows, turns)
    name = f"take of {BATCH} rows from {len(many.shards)} files, against"
    return [
        row(f"{name} one file", times["shards"], times["one file"], 0.9, "ms per batch"),
        row(f"{name} an array of each", times["shards"], times["an array each"], 1.0, "ms per batch"),
    ]


def race(ways: dict[str, Take], rows: int, turns: int) -> dict[str, float]:
    """Median milliseconds per batch of each way, on the same rows."""
    for every in np.arange(rows).reshape(-1, BATCH):  # which maps all pages
        first, *others = (way(every) for way in ways.values())
        assert all(np.array_equal(first, other) for other in others)
    rng, seconds = np.random.default_rng(0), {name: list[float]() for name in ways}
    for _ in range(turns):
        batches = [rng.choice(rows, BATCH, replace=False) for _ in range(TURN)]
        for name in rng.permutation(list(ways)):
            start = time.perf_counter()
            for chosen in batches:
                ways[name](chosen)
            seconds[name].append((time.perf_counter() - start) / TURN)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


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
