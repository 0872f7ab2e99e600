"""Epochs of torch's DataLoader on a `FeatureCache`, against `take` itself and a Dataset over h5py rows.

    python -m benchmarks.dataloader [--quick]

512 rows of 256×5×5 float16 at a time, shuffled, from a warm file. The first epoch starts the workers, which
stay, and compares the batches of all ways; then epochs take turns, in an order drawn each time, and the
shortest of each is reported: others wait for what else the machine does. The last row is torch's own part:
workers that get the row numbers, and send nothing.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.alone import main, row
from benchmarks.read_cache import BATCH, make_cache
from cache import FeatureCache

Epoch = Callable[[], Iterator[Any]]


class H5pyRows(Dataset[Any]):
    """What people write first: a row of the file and its label, at each index."""

    def __init__(self, path: Path, rows: int) -> None:
        self.path, self.rows, self.file = path, rows, None

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: int) -> Any:
        if self.file is None:  # each worker has to open it
            self.file = h5py.File(self.path)
            self.features, self.labels = self.file["features"], self.file["labels"][:]  # type: ignore[index]
        return self.features[index, 0], self.labels[index]  # type: ignore[index]


class Nothing(Dataset[Any]):
    """As many rows, of which nothing is read."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return self.rows

    def __getitems__(self, rows: list[int]) -> list[int]:
        return rows


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit (ms per batch; the ratio is theirs / ours)."""
    rows, epochs = (4 * 1024, 5) if quick else (24 * 1024, 25)
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder) / "train.h5", rows)
        ways: dict[str, Epoch] = {"take": taken(cache)}
        for workers in (0, 2):
            ways[f"cache {workers}"] = loader(cache, rows, workers)
            ways[f"h5py {workers}"] = loader(H5pyRows(cache.path, rows), rows, workers)
        nothing = loader(Nothing(rows), rows, 2, collate_fn=len)
        times = race(ways, {"nothing": nothing}, epochs, rows // BATCH)
    unit = "ms per batch"
    return [
        row(f"DataLoader(FeatureCache), {workers} workers, against {name}", ours, times[way], target, unit)
        for workers, ours in ((0, times["cache 0"]), (2, times["cache 2"]))
        for name, way, target in (("take", "take", 0.8), ("rows of h5py", f"h5py {workers}", 20.0))
    ] + [
        row(
            "DataLoader of 2 workers that send nothing, against take",
            times["nothing"],
            times["take"],
            0.8,
            unit,
        )
    ]


def race(ways: dict[str, Epoch], others: dict[str, Epoch], epochs: int, batches: int) -> dict[str, float]:
    """Milliseconds per batch in the best epoch of each way, in turns; of h5py, which takes long, of five.
    The batches of `others` aren't compared."""
    for batch in zip(*(epoch() for epoch in ways.values()), strict=True):
        features, labels = (list(map(np.asarray, part)) for part in zip(*batch, strict=True))
        assert all(np.array_equal(features[0], other) for other in features)
        assert all(np.array_equal(labels[0], other) for other in labels)
    ways = ways | others
    rng, seconds = np.random.default_rng(0), {name: list[float]() for name in ways}
    for turn in range(epochs):
        for name in rng.permutation(list(ways)):
            if turn < 5 or not name.startswith("h5py"):
                start = time.perf_counter()
                for _batch in ways[name]():  # which is there until the next one is
                    pass
                seconds[name].append(time.perf_counter() - start)
    return {name: 1000 * min(times) / batches for name, times in seconds.items()}


def taken(cache: FeatureCache) -> Epoch:
    """The same batches without torch's DataLoader."""
    sampler = shuffled(len(cache))

    def epoch() -> Iterator[Any]:
        order = list(sampler)
        for at in range(0, len(order), BATCH):
            yield cache.take(order[at : at + BATCH]), cache.labels[order[at : at + BATCH]]

    return epoch


def loader(data: Dataset[Any], rows: int, workers: int, **given: Any) -> Epoch:
    made = DataLoader(
        data, BATCH, sampler=shuffled(rows), num_workers=workers, persistent_workers=workers > 0, **given
    )
    return lambda: iter(made)


def shuffled(rows: int) -> RandomSampler:
    """Another order in each epoch, the same for every way."""
    return RandomSampler(range(rows), generator=torch.Generator().manual_seed(0))


if __name__ == "__main__":
    main(run)
