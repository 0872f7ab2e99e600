"""int8 against float16: bytes, the time of an epoch that reads from a disk, and what heads score.

    python -m benchmarks.int8 [--quick]
    python -m benchmarks.int8 RUNS_ON_FLOAT16 RUNS_ON_INT8

The first compares caches of the same maps:

    size     of the files
    reading  20,000 random rows, 2,000 at a time
    epoch    of csra on the full map, which has little to compute, with the smallest memory budget, so that
             every map is read, while the one before is computed on; without the check of digests, which would
             read the whole file first
    slow     the same, where each read takes as long as a volume of 125 or 500 MB a second would: the reader
             sleeps for the rest of that time

Both files are dropped from the page cache before each run, and take turns; the best of some runs counts. What
they hold is asserted to be equal within half a step of int8 and float16's rounding.

The second takes two sweeps over the same seeds, and gives the difference of their mean top-1 on the test
images, with the 95 % interval of a paired bootstrap over these, and the difference of each seed.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alone import main, row
from benchmarks.scale import LIGHT, drop, least_budget_mb, settings, write_cache
from cache import FeatureCache, one_file
from cache.dtypes import Raw
from pipeline.evaluation.logits import score_run
from pipeline.metrics.bootstrap import top1_interval
from pipeline.training.stage import train

SLOW_MB = (125, 500)
"""What the cheaper network volumes, and disks on SATA, give in a second."""


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    rows, repeats = (4_000, 1) if quick else (50_000, 3)
    with tempfile.TemporaryDirectory() as name:
        folders = {dtype: Path(name) / dtype for dtype in ("float16", "int8")}
        for dtype, folder in folders.items():
            folder.mkdir()
            write_cache(folder, rows, dtype=dtype)
        caches = {dtype: FeatureCache(folder / "train.h5") for dtype, folder in folders.items()}
        assert_equal(caches["float16"], caches["int8"])
        budgets = {dtype: least_budget_mb(folder, **LIGHT) for dtype, folder in folders.items()}
        kinds = ["reading", "epoch", *SLOW_MB]
        best = {kind: dict.fromkeys(folders, float("inf")) for kind in kinds}
        for turn in range(repeats):
            for dtype, folder in folders.items():
                found = [read(caches[dtype]), epoch(folder, f"run{turn}", budgets[dtype])]
                for speed in SLOW_MB:
                    with slow_disk(speed):
                        found.append(epoch(folder, f"slow{speed}-{turn}", budgets[dtype]))
                for kind, seconds in zip(kinds, found, strict=True):
                    best[kind][dtype] = min(best[kind][dtype], seconds)
        sizes = {dtype: cache.path.stat().st_size / 1e6 for dtype, cache in caches.items()}
    size = row("Size of int8 against float16", sizes["int8"], sizes["float16"], 0.0, "MB")
    names = {
        "reading": "Random rows from the disk",
        "epoch": "Epoch from the disk",
        **{speed: f"Epoch from a volume of {speed} MB/s" for speed in SLOW_MB},
    }
    figures = [size | {"ratio": 1 / size["ratio"], "target": "<= 0.52"}]
    for kind, times in best.items():
        ours, theirs = (1e6 * times[dtype] for dtype in ("int8", "float16"))
        figures.append(row(f"{names[kind]}, int8 against float16", ours, theirs, 1.5, "µs per row"))
    return figures


def epoch(folder: Path, name: str, budget_mb: int) -> float:
    """Seconds for a training row of an epoch, none of whose maps stay in memory."""
    drop(folder / "train.h5")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        given = {**LIGHT, "epochs": 1, "verify": False}
        run = train(settings(folder, name, memory_budget_mb=budget_mb, **given))
    assert "read from disk in each epoch" in said.getvalue(), said.getvalue()
    rows = json.loads((run / "config.json").read_text())["train_images"]
    return json.loads((run / "metrics.jsonl").read_text())["seconds"] / rows


@contextlib.contextmanager
def slow_disk(speed: int) -> Iterator[None]:
    """Have reads take as long as on a disk of `speed` MB a second."""
    read_rows = one_file.read_rows

    def slowly(fd: int, offset: int, index: np.ndarray, out: Raw) -> None:
        until = time.perf_counter() + out.nbytes / (1e6 * speed)
        read_rows(fd, offset, index, out)
        time.sleep(max(0.0, until - time.perf_counter()))

    one_file.read_rows = slowly
    try:
        yield
    finally:
        one_file.read_rows = read_rows


def read(cache: FeatureCache) -> float:
    """Seconds for a row, of random ones that aren't in the page cache."""
    drop(cache.path)
    order = np.random.default_rng(0).permutation(len(cache))[:20_000]
    started = time.perf_counter()
    for at in range(0, len(order), 2_000):
        cache.read(order[at : at + 2_000])
    return (time.perf_counter() - started) / len(order)


def assert_equal(short: FeatureCache, eight: FeatureCache) -> None:
    """That int8 is off from float16 by half a step, what is saturated, and float16's own rounding at most."""
    rows = np.arange(0, len(short), max(1, len(short) // 500))
    values = short.take(rows).astype(np.float32)
    assert eight.scales is not None
    step, zero = eight.scales[:, :, None, None]
    within = np.clip(values, (-128 - zero) * step, (127 - zero) * step)
    off = np.abs(eight.decode(eight.take(rows)) - within)
    assert (off <= step / 2 + 2**-10 * np.abs(values) + 1e-6).all()
    assert (within == values).mean() > 0.9999


def compare(floats: Path, eights: Path) -> str:
    """Two sweeps of runs that have the same names. Raises: RunError when one has no finished run."""
    names = sorted(path.parent.name for path in floats.glob("*/head.safetensors"))
    scored = [[score_run(sweep / name, device="cpu") for name in names] for sweep in (floats, eights)]
    correct = [np.stack([p.logits.argmax(1) == p.labels for p in sweep]) for sweep in scored]
    interval = top1_interval(*correct)
    top1 = [100 * float(each.mean()) for each in correct]
    seeds = " ".join(f"{100 * d:+.2f}" for d in correct[1].mean(1) - correct[0].mean(1))
    return (
        f"{len(names)} runs, {correct[0].shape[1]:,} test images: {top1[0]:.2f} on float16, {top1[1]:.2f} on "
        f"int8, {interval} percentage points; each run: {seeds}"
    )


if __name__ == "__main__":
    if folders := [Path(word) for word in sys.argv[1:] if word != "--quick"]:
        print(compare(*folders))
    else:
        main(run)
