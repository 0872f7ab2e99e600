"""Caches larger than memory: what training holds at most, whether its time grows with the rows alone, and
whether it learns the same as in RAM.

    python -m benchmarks.scale [--quick]

    memory   a process with --memory-budget-mb trains on a cache four times as large. Counted is the peak of
             its resident memory (VmHWM, reset before) beyond what it held after the imports and a run on a
             hundred rows, which loads what libraries load late
    growth   seconds per row and epoch on caches of 10k, 50k and 200k rows, all read from disk in each epoch
             because of the smallest budget; digests are checked, and the best of some runs counts. csra on
             the full map has little to compute, so that what reading takes can't hide behind it
    disk     the largest, against the same in RAM, as the maps are stored
    budgets  the accuracy of caches sorted by class, 10, 100 and 1,000 classes, in RAM and at budgets from the
             smallest that is accepted; the results have to be equal

A file is written out and dropped from the page cache before each run, so that it has to be read from the
disk. Maps repeat one block of random numbers: 12.8 kB a row, 2.6 GB for the largest, deleted at the end.
"""

import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alone import main, row
from cache import CacheHeader, CacheWriter, fit_scales
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.training.stage import train

MAP, CLASSES = (256, 5, 5), 10
ROW_BYTES = 2 * 256 * 5 * 5
LIGHT: dict[str, Any] = {"head": "csra", "crops": "full", "hidden": (512,)}


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    sizes = {2_000: 3, 10_000: 2} if quick else {10_000: 3, 50_000: 2, 200_000: 1}
    rows = [memory(256 if quick else 512), *growth(sizes)]
    for classes in (10, 100, 1000):
        rows += budgets(classes, 4_000 if quick else 20_000)
    return rows


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
    train(settings(Path(folder), "small", epochs=1, per_class=10, batch=16))
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    train(settings(Path(folder), "run", epochs=1, memory_budget_mb=budget_mb))
    print(json.dumps({"imports_mb": imports, "before_mb": before, "peak_mb": resident_mb("VmHWM")}))


def resident_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def growth(sizes: dict[int, int]) -> list[dict[str, Any]]:
    """Seconds per row of each size against those of the smallest, and of the largest against those in RAM;
    `sizes` says how often each is run."""
    best, in_ram, first, last = {}, 0.0, min(sizes), max(sizes)
    for rows, repeats in sizes.items():
        with tempfile.TemporaryDirectory() as name:
            folder, stored_mb = Path(name), rows * ROW_BYTES >> 20
            write_cache(folder, rows)
            least = least_budget_mb(folder, **LIGHT)
            best[rows] = min(seconds_per_row(folder, str(i), least) for i in range(repeats))
            if rows == last:  # inputs are twice as large as what is stored
                in_ram = min(seconds_per_row(folder, f"ram{i}", least + stored_mb) for i in range(repeats))
    pairs = {f"{rows:,} rows against {first:,}": (best[rows], best[first]) for rows in sizes if rows != first}
    pairs[f"{last:,} rows against the same in RAM"] = best[last], in_ram
    return [
        {
            "name": f"Training from disk, {name}",
            "ours": 1e6 * ours,
            "theirs": 1e6 * theirs,
            "ratio": ours / theirs,
            "target": "<= 1.1" if "against the same" not in name else "<= 1.5",
            "unit": "µs per row and epoch",
        }
        for name, (ours, theirs) in pairs.items()
    ]


def budgets(classes: int, rows: int) -> list[dict[str, Any]]:
    """Accuracy on a cache sorted by class under budgets, against all maps in RAM."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_cache(folder, rows, classes)
        least, inputs_mb = least_budget_mb(folder), rows * 5 * 4 * 2304 >> 20
        whole, found = trained(folder, "whole", memory_budget_mb=4 * (inputs_mb + least)), []
        assert "from disk" not in whole["said"]
        for budget_mb in (least, least + (rows * ROW_BYTES >> 21), least + 2 * (rows * ROW_BYTES >> 20)):
            drop(folder / "train.h5")
            ours = trained(folder, str(budget_mb), memory_budget_mb=budget_mb)
            where = "from disk" if "training maps: " in ours["said"] and "disk" in ours["said"] else "in RAM"
            assert ours["lines"] == whole["lines"], f"{budget_mb} MB, {where}: {ours} against {whole}"
            told = f"{classes:,} sorted classes, {budget_mb} MB, {where}, against all in RAM"
            found.append(row(told, ours["top1"], whole["top1"], 1.0, "validation top-1, %"))
    return found


def trained(folder: Path, name: str, **given: Any) -> dict[str, Any]:
    """What a run of two epochs said, its log without the seconds, and its score."""
    with contextlib.redirect_stdout(io.StringIO()) as said:
        run = train(settings(folder, name, lr=(0.3,), **given))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    top1 = json.loads((run / "summary.json").read_text())["val_top1"]
    return {
        "said": said.getvalue(), "top1": top1, "lines": [{**line, "seconds": 0} for line in lines]
    }  # fmt: skip


def least_budget_mb(folder: Path, **given: Any) -> int:
    """The smallest budget that training accepts."""
    try:
        train(settings(folder, "refused", memory_budget_mb=1, **given))
    except ConfigError as error:
        return int(re.findall(r"at least ([\d,]+)", str(error))[0].replace(",", ""))
    raise AssertionError("a budget of 1 MB was accepted")


def seconds_per_row(folder: Path, name: str, budget_mb: int) -> float:
    """Of training, per row and epoch, from a file that isn't in the page cache."""
    drop(folder / "train.h5")
    with contextlib.redirect_stdout(io.StringIO()) as said:
        run = train(settings(folder, name, memory_budget_mb=budget_mb, **LIGHT))
    where = "kept in RAM" if name.startswith("ram") else "read from disk in each epoch"
    assert where in said.getvalue().split("training maps")[1].splitlines()[0], said.getvalue()
    rows = json.loads((run / "config.json").read_text())["train_images"]
    return json.loads((run / "summary.json").read_text())["seconds"] / (2 * rows)


def drop(path: Path) -> None:
    """Have the file read from the disk the next time."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def settings(folder: Path, name: str, **given: Any) -> TrainConfig:
    given = {"hidden": (64,), "val_fraction": 0.25, "batch": 512, "epochs": 2, **given}
    return TrainConfig(cache=str(folder), out=str(folder / name), device="cpu", **given)


def write_cache(folder: Path, rows: int, classes: int = 0, dtype: str = "float16") -> None:
    """FOLDER/train.h5, the same block of noise again and again; sorted by class, with a level for each class
    and channel, if there are `classes`, else with labels at random."""
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((1024, 1, *MAP), np.float32)
    labels = np.sort(np.arange(rows) % classes) if classes else rng.integers(CLASSES, size=rows)
    levels = 0.5 * rng.standard_normal((classes, 1, MAP[0], 1, 1), np.float32)
    header = CacheHeader(
        shape=(rows, 1, *MAP),
        dtype=dtype,
        labels=labels,
        paths=[f"{i}.png" for i in range(rows)],
        classes=[str(i) for i in range(classes or CLASSES)],
        identity={"views": "plain"},
        scales=fit_scales([maps]) if dtype == "int8" else None,
    )
    with CacheWriter(folder / "train.h5", header) as writer:
        for block in writer.missing:
            mine = maps[rng.permutation(len(block))] if classes else maps[: len(block)]
            if classes:
                mine = mine + levels[labels[block.start : block.stop]]
            writer.write(block, mine, np.zeros((len(block), 16), np.uint8))
        writer.publish()


if __name__ == "__main__":
    if "--child" in sys.argv:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main(run)
