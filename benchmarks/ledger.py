"""`tencrop runs` over 1,000 runs, from the start of its process, and a plain loop over the same JSON files.

    python -m benchmarks.ledger [--quick]

One run is trained and copied, with another seed, rate and score in each copy. Both sides are processes of
their own, in turns, the best of five; both have to give the same score for each run. The loop prints five
columns of runs that are finished and whole, and is no rival but a measure.
"""

import csv
import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.alone import main
from cache import CacheHeader, CacheWriter
from pipeline.config import TrainConfig
from pipeline.files import read_json, write_json
from pipeline.training.stage import train

SECONDS, TIMES = 1.0, 5
OURS = [sys.executable, "-m", "pipeline.runs", "--format", "csv"]
LOOP = """
import csv, json, pathlib, sys
lines = csv.writer(sys.stdout)
lines.writerow(["run", "head", "lr", "seed", "score"])
for path in sorted(pathlib.Path(sys.argv[1]).rglob("summary.json")):
    config, summary = json.loads((path.parent / "config.json").read_text()), json.loads(path.read_text())
    lines.writerow([path.parent, config["head"], *config["lr"], *config["seed"], summary["val_top1"]])
"""


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    count = 100 if quick else 1000
    with tempfile.TemporaryDirectory() as folder:
        runs = make_runs(Path(folder), count)
        sides = {"ours": [*OURS, str(runs)], "loop": plain_loop(runs)}
        times: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(TIMES):
            scores = {name: scores_of(command, times[name]) for name, command in sides.items()}
            assert scores["ours"] == scores["loop"]
            assert len(scores["ours"]) == count
    ours, loop = (min(taken) for taken in times.values())
    name, own = f"list of {count:,} runs", {"ours": ours, "unit": "s"}
    return [
        {"name": name, **own, "theirs": SECONDS, "ratio": ours / SECONDS, "target": "<= 1"},
        {"name": f"{name}, against a loop", **own, "theirs": loop, "ratio": loop / ours, "target": "none"},
    ]


def plain_loop(runs: Path) -> list[str]:
    """The command of what one writes by hand: five columns, of runs that are finished and whole."""
    return [sys.executable, "-c", LOOP, str(runs)]


def scores_of(command: list[str], times: list[float]) -> dict[str, float]:
    """The score of each run that a command lists; its seconds are added to `times`."""
    started = time.perf_counter()
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    times.append(time.perf_counter() - started)
    return {line["run"]: float(line["score"]) for line in csv.DictReader(io.StringIO(said))}


def make_runs(folder: Path, count: int) -> Path:
    """A trained run, and copies of it."""
    labels = np.arange(90) % 3
    maps = labels[:, None, None, None, None] + np.random.default_rng(0).normal(size=(90, 1, 8, 3, 3))
    paths = [f"{i}.png" for i in range(90)]
    header = CacheHeader(maps.shape, "float32", labels, paths, ("ant", "bee", "cow"), {"views": "plain"})
    with CacheWriter(folder / "cache/train.h5", header) as writer:
        for rows in writer.missing:
            digests = np.zeros((len(rows), 16), np.uint8)
            writer.write(rows, maps[rows.start : rows.stop].astype(np.float32), digests)
        writer.publish()
    place = {"cache": str(folder / "cache"), "out": str(folder / "one")}
    first = train(TrainConfig.from_json({**place, "head": "linear", "epochs": 2, "device": "cpu"}))
    config, summary = read_json(first / "config.json"), read_json(first / "summary.json")
    for number in range(count):
        run = folder / f"runs/sweep{number // 100}/run{number}"
        shutil.copytree(first, run)
        changed = {"seed": [number], "lr": [0.1 / (1 + number % 7)], "out": str(run)}
        write_json(run / "config.json", {**config, **changed})
        write_json(run / "summary.json", {**summary, "val_top1": 50 + number * 37 % 1000 / 25})
    return folder / "runs"


if __name__ == "__main__":
    main(run)
