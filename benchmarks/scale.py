"""Caches larger than memory: what training holds at most, and whether its time grows with the rows alone.

    python -m benchmarks.scale [--quick]

    memory   a process with --memory-budget-mb trains on a cache four times as large. Counted is the peak of
             its resident memory (VmHWM, reset before) beyond what it held after the imports and a run on a
             hundred rows, which loads what libraries load late
    growth   seconds per row and epoch on caches of 10k, 50k and 200k rows, all read from disk in each epoch
             because of the same small budget; digests are checked and the best of some runs counts

The caches repeat one block of random maps: 12.8 kB a row, 2.6 GB for the largest, deleted at the end.
"""

import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alone import main
from cache import CacheHeader, CacheWriter
from pipeline.config import TrainConfig
from pipeline.training.stage import train

MAP, CLASSES = (256, 5, 5), 10
ROW_BYTES = 2 * 256 * 5 * 5


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    sizes = {2_000: 3, 10_000: 2} if quick else {10_000: 3, 50_000: 2, 200_000: 1}
    return [memory(128 if quick else 256), *growth(sizes)]


def memory(budget_mb: int) -> dict[str, Any]:
    """Peak memory over budget, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        write_cache(Path(folder), 4 * (budget_mb << 20) // ROW_BYTES)
        child = [sys.executable, "-m", "benchmarks.scale", "--child", folder, str(budget_mb)]
        said = subprocess.run(child, capture_output=True, text=True, check=True).stdout
    assert "read from disk in each epoch" in said, said
    held = json.loads(said.splitlines()[-1])
    return {
        "name": f"Peak memory beyond imports and a small run, training on a cache of {4 * budget_mb} MB",
        "ours": held["peak_mb"] - held["before_mb"],
        "theirs": budget_mb,
        "ratio": (held["peak_mb"] - held["before_mb"]) / budget_mb,
        "held": held,
        "target": "<= 1.2",
        "unit": "MB, budget",
    }


def child(folder: str, budget_mb: int) -> None:
    """Train, and print the peak of resident memory as the last line."""
    imports = resident_mb("VmRSS")
    train(settings(Path(folder), "small", epochs=1, hidden=(64,), per_class=10, batch=16))
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    train(settings(Path(folder), "run", epochs=1, hidden=(64,), memory_budget_mb=budget_mb))
    print(json.dumps({"imports_mb": imports, "before_mb": before, "peak_mb": resident_mb("VmHWM")}))


def resident_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def growth(sizes: dict[int, int]) -> list[dict[str, Any]]:
    """Seconds per row of each size against those of the smallest; `sizes` says how often each is run."""
    best = {}
    for rows, repeats in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            write_cache(Path(folder), rows)
            best[rows] = min(seconds_per_row(Path(folder), str(i)) for i in range(repeats))
    first = next(iter(sizes))
    return [
        {
            "name": f"Training from disk, {rows:,} rows against {first:,}",
            "ours": 1e6 * seconds,
            "theirs": 1e6 * best[first],
            "ratio": seconds / best[first],
            "target": "<= 1.1",
            "unit": "µs per row and epoch",
        }
        for rows, seconds in best.items()
        if rows != first
    ]


def seconds_per_row(folder: Path, name: str) -> float:
    said, epochs = io.StringIO(), 2
    with contextlib.redirect_stdout(said):
        run = train(settings(folder, name, epochs=epochs, hidden=(64,), memory_budget_mb=16, batch=512))
    assert "training maps: " in said.getvalue()
    assert "read from disk in each epoch" in said.getvalue().split("training maps")[1].splitlines()[0]
    rows = json.loads((run / "config.json").read_text())["train_images"]
    return json.loads((run / "summary.json").read_text())["seconds"] / (epochs * rows)


def settings(folder: Path, name: str, **given: Any) -> TrainConfig:
    return TrainConfig(cache=str(folder), out=str(folder / name), device="cpu", **given)


def write_cache(folder: Path, rows: int) -> None:
    """FOLDER/train.h5, the same block again and again."""
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((1024, 1, *MAP), np.float32)
    header = CacheHeader(
        shape=(rows, 1, *MAP),
        dtype="float16",
        labels=rng.integers(CLASSES, size=rows),
        paths=[f"{i}.png" for i in range(rows)],
        classes=[str(i) for i in range(CLASSES)],
        identity={"views": "plain"},
    )
    with CacheWriter(folder / "train.h5", header) as writer:
        for block in writer.missing:
            writer.write(block, maps[: len(block)], np.zeros((len(block), 16), np.uint8))
        writer.publish()


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main(run)
