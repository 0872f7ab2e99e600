"""Extraction by several processes against one: on this machine's cores, and on devices of their own.

    python -m benchmarks.workers [--quick]

    two processes    a share each, one thread each, against one process with a thread for each of two cores
    four devices     a trunk that sleeps instead of computing, one batch at a time as a device does; four
                     processes against one that does all, whose time is divided by four

Shares are handed to processes that have loaded what they need, so their start isn't in it. Sides take turns,
the best of each counts, and all caches have to hold the same maps.
"""

import shutil
import tempfile
import time
from concurrent.futures import Executor, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.alone import main, row
from benchmarks.images import make_jpegs
from cache import FeatureCache, split_path
from pipeline.config import ExtractConfig
from pipeline.engines.executors import open_executor
from pipeline.extraction.stage import extract_shard
from pipeline.extraction.work import trunk_of
from pipeline.trunks.prepare import PreparedTrunk, map_shape

SLEEPING = """
import threading
import time

import torch
from torch import nn


class Sleeping(nn.Sequential):
    device = threading.Lock()

    def forward(self, images):
        if len(images) > 2:
            with self.device:
                time.sleep(len(images) * {seconds})
        return super().forward(images)


def trunk():
    torch.manual_seed(0)
    return Sleeping(nn.Conv2d(3, 4, 3, stride=4), nn.ReLU())
"""


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        return [on_cores(folder, quick), on_devices(folder, quick)]


def on_cores(folder: Path, quick: bool) -> dict[str, Any]:
    """Two processes on two cores."""
    images, repeats = (2 * 1024, 1) if quick else (12 * 1024, 3)
    photos = make_jpegs(folder / "photos", images)
    config = ExtractConfig(dataset=f"folder:{photos}", cache=str(folder / "cores"), device="cpu")
    with open_executor("local", 2) as two, open_executor("local", 1) as one:
        warm(two, 2)
        warm(one, 1)
        ours, theirs = compared(config, images, (two, 2), (one, 1), repeats)
    name = f"extraction of {images:,} JPEGs by two processes against one of two threads"
    return row(name, ours, theirs, 0.95, "s")


def on_devices(folder: Path, quick: bool, count: int = 4) -> dict[str, Any]:
    """Processes that wait for a device each: what sharing out itself takes."""
    images, repeats = count * 1024, 1 if quick else 2
    photos, trunk = make_jpegs(folder / "tiny", images), folder / "sleeping.py"
    trunk.write_text(SLEEPING.format(seconds=0.01))
    config = ExtractConfig(
        dataset=f"folder:{photos}",
        trunk=f"{trunk}:trunk",
        cache=str(folder / "devices"),
        image_px=32,
        device="cpu",
        batch=256,
    )
    with open_executor("local", count) as many, open_executor("local", 1) as one:
        warm(many, count)
        warm(one, 1)
        ours, theirs = compared(config, images, (many, count), (one, 1), repeats)
    name = f"extraction of {images:,} images on {count} sleeping devices against one, divided by {count}"
    return row(name, ours, theirs / count, 0.9, "s")


Side = tuple[Executor, int]


def compared(
    config: ExtractConfig, images: int, ours: Side, theirs: Side, repeats: int
) -> tuple[float, float]:
    """The least seconds of two executors with so many workers, in turns. Their caches must be equal."""
    best = [float("inf"), float("inf")]
    for _ in range(repeats):
        made = []
        for side, (executor, workers) in enumerate((ours, theirs)):
            cache = Path(f"{config.cache}-{side}")
            shutil.rmtree(cache, ignore_errors=True)
            asked = ExtractConfig.from_json(config.as_json() | {"cache": str(cache)})
            best[side] = min(best[side], seconds(executor, workers, asked))
            made.append(FeatureCache(split_path(cache, "train")))
        assert len(made[0]) == images
        assert made[0].key == made[1].key
        assert np.array_equal(made[0].features, made[1].features), "the caches hold other maps"
    return best[0], best[1]


def seconds(executor: Executor, workers: int, config: ExtractConfig) -> float:
    """From handing the shares out until the manifest is there."""
    started = time.perf_counter()
    for done in [executor.submit(extract_shard, config, rank, workers) for rank in range(workers)]:
        done.result()
    return time.perf_counter() - started


def warm(executor: Executor, workers: int) -> None:
    """Have every worker load all that it needs. Each sleeps a moment, or one could do the others' tasks."""
    wait([executor.submit(time.sleep, 1) for _ in range(workers)])  # their processes are there
    wait([executor.submit(load) for _ in range(workers)])


def load() -> None:
    """What the first share of a process would do besides."""
    map_shape(PreparedTrunk(trunk_of(ExtractConfig()), torch.device("cpu")), 32)
    time.sleep(1)


if __name__ == "__main__":
    main(run)
