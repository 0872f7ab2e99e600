"""Random batches from a warm cache: `FeatureCache.take` against h5py's fancy index and against RAM.

    python -m benchmarks.read_cache [--quick]

512 rows of 256×5×5 float16 at a time, in random order. Every way has read every row before it is timed. They
take turns, in an order drawn each time, on the same rows; each batch is compared, and the median time of each
is reported, so that a busy machine and warm processor caches favour none of them. The chunked file takes a
second per batch and leaves cores asleep and caches empty, so it takes its turns with ours alone.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.alone import main, row
from cache import CacheHeader, CacheWriter, FeatureCache

BATCH = 512
MAP = (256, 5, 5)
Take = Callable[[np.ndarray], np.ndarray]


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit (ms per batch; the ratio is theirs / ours)."""
    rows, batches = (4 * 1024, 10) if quick else (24 * 1024, 100)
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder) / "contiguous.h5", rows)
        chunked = copy_chunked(cache, Path(folder) / "chunked.h5")
        in_memory = np.array(cache.features[:, 0])
        buffers = [np.empty((BATCH, *MAP), np.float16) for _ in range(2)]
        ours: Take = lambda chosen: cache.take(chosen, out=buffers[0])  # noqa: E731
        ram: Take = lambda chosen: np.take(in_memory, chosen, axis=0, out=buffers[1], mode="clip")  # noqa: E731
        with h5py.File(cache.path) as plain_file, h5py.File(chunked) as chunked_file:
            quick_ones = {"ours": ours, "contiguous": h5py_take(plain_file), "RAM": ram}
            times = race(quick_ones, rows, batches)
            slow = race({"ours": ours, "chunked": h5py_take(chunked_file)}, rows, batches // 5)
    name = "FeatureCache.take against"
    return [
        row(f"{name} h5py fancy index, contiguous", times["ours"], times["contiguous"], 15.0, "ms per batch"),
        row(f"{name} h5py fancy index, chunked", slow["ours"], slow["chunked"], 200.0, "ms per batch"),
        row(f"{name} np.take from RAM", times["ours"], times["RAM"], 0.8, "ms per batch"),
    ]


def race(ways: dict[str, Take], rows: int, batches: int) -> dict[str, float]:
    """Median milliseconds per batch of each way, taking turns on the same rows, results compared."""
    rng = np.random.default_rng(0)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    warming = np.arange(rows).reshape(-1, BATCH)  # fills the page cache and maps the pages
    timed = [rng.choice(rows, BATCH, replace=False) for _ in range(batches)]
    for turn, chosen in enumerate([*warming, *timed]):
        expected = None
        for name in rng.permutation(list(ways)):
            start = time.perf_counter()
            taken = ways[name](chosen)
            if turn >= len(warming):
                seconds[name].append(time.perf_counter() - start)
            expected = taken.copy() if expected is None else expected
            assert np.array_equal(taken, expected), f"{name} read something else"
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def h5py_take(file: h5py.File) -> Take:
    dataset = file["features"]
    assert isinstance(dataset, h5py.Dataset)

    def take(chosen: np.ndarray) -> np.ndarray:
        order = np.argsort(chosen)  # h5py takes increasing rows only
        batch = np.empty((len(chosen), *dataset.shape[1:]), dataset.dtype)
        batch[order] = dataset[chosen[order]]
        return batch[:, 0]

    return take


def make_cache(path: Path, rows: int) -> FeatureCache:
    header = CacheHeader(
        shape=(rows, 1, *MAP),
        dtype="float16",
        labels=np.zeros(rows, np.int64),
        paths=[f"{row}.png" for row in range(rows)],
        classes=["any"],
        identity={"benchmark": "read_cache"},
    )
    rng = np.random.default_rng(0)
    with CacheWriter(path, header) as writer:
        for block in writer.missing:
            maps = rng.standard_normal((len(block), 1, *MAP), np.float32)
            writer.write(block, maps, np.zeros((len(block), 16), np.uint8))
        writer.publish()
    return FeatureCache(path)


def copy_chunked(cache: FeatureCache, path: Path) -> Path:
    """The same maps with the chunks that h5py chooses by itself."""
    with h5py.File(path, "w") as file:
        file.create_dataset("features", data=cache.features, chunks=True)
    return path


if __name__ == "__main__":
    main(run)
