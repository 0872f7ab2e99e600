"""Starting on a million images: seconds and memory of a cache's opening, of planning, and of "up to date".

    python -m benchmarks.startup [--quick]

    open         `FeatureCache(path)`, its key and images digest
    plan         the header of a split, checked, and compared with the cache that is there
    up to date   the same, and no image read: size, inode and time of change are in the stamp
    digests      the images, each of which is read because there is no stamp (`up to date` without it)
    scan         the folder, by one call of the system for each file

A cache of 1×1×1 maps, and files of a byte, in 1,000 classes. Each in a process of its own; its memory is the
peak (VmHWM, reset before) beyond what it held after the imports and, for `plan` and the two behind it, the
scan. The last two rows are the machine's affair and have no target.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from xxhash import xxh3_128_digest

from benchmarks.alone import main
from benchmarks.scale import resident_mb
from cache import CacheWriter, FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.scan import scan
from pipeline.extraction import jobs
from pipeline.extraction.refresh import refresh
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk

SECONDS, MEGABYTES = 1.0, 300
CLASSES = 1000
STEPS = ("open", "plan", "up to date", "digests", "scan")


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    images = 20_000 if quick else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        make_files(Path(name), images)
        subprocess.run(child("make", name), check=True, capture_output=True)
        found = {step: [measured(step, name) for _ in range(2)] for step in STEPS}
    rows = []
    for step, twice in found.items():
        best = {unit: min(each[unit] for each in twice) for unit in ("seconds", "MB")}
        for unit, limit in (("seconds", SECONDS), ("MB", MEGABYTES)):
            row = {"name": f"{step}, {images:,} images", "ours": best[unit], "theirs": limit, "unit": unit}
            is_bound = step not in ("digests", "scan")
            rows.append(row | {"ratio": best[unit] / limit, "target": "<= 1" if is_bound else "none"})
    return rows


def make_files(folder: Path, images: int) -> None:
    for row in range(images):
        place = folder / f"photos/n{row % CLASSES:08}"
        if row < CLASSES:
            place.mkdir(parents=True)
        (place / f"n{row % CLASSES:08}_{row:07}.jpg").write_bytes(b"x")


def child(step: str, folder: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.startup", "--child", step, folder]


def measured(step: str, folder: str) -> dict[str, float]:
    said = subprocess.run(child(step, folder), check=True, capture_output=True, text=True).stdout
    return json.loads(said.splitlines()[-1])


def work(step: str, folder: Path) -> dict[str, float]:
    """Seconds and megabytes of a step, in this process."""
    path, photos = folder / "train.h5", f"{folder}/photos/"
    if step == "open":
        return clocked(lambda: (cache := FeatureCache(path), cache.key, cache.images_digest))
    if step == "scan":
        return clocked(lambda: scan(photos, "", "train"))
    config = ExtractConfig(dataset=f"folder:{photos}", cache=str(folder), device="cpu", dtype="float32")
    transform = Transform(image_px=1, mean=(0, 0, 0), std=(1, 1, 1))
    trunk = Trunk("pixel", 1, nn.Conv2d(3, 1, 1).requires_grad_(False), transform, "")
    prepared = PreparedTrunk(trunk, torch.device("cpu"))
    split = scan(photos, "", "train")

    def plan() -> jobs.Job:
        with Decoders([], 1) as none:
            return jobs.plan(config, trunk, prepared, split, none)

    if step == "make":
        make(plan())
        return {}
    if step == "plan":
        return clocked(plan)
    if step == "digests":
        (folder / "train.h5.stamp").unlink()
    found = clocked(lambda: refresh(plan()))
    assert plan().files.compared(FeatureCache(path)).all(), "an image would be read again"
    return found


def make(job: jobs.Job) -> None:
    """The cache of images that are all alike, and its stamp."""
    with CacheWriter(job.path, job.header) as writer:
        for rows in writer.missing:
            digests = np.frombuffer(xxh3_128_digest(b"x") * len(rows), np.uint8).reshape(-1, 16)
            writer.write(rows, np.zeros((len(rows), 1, 1, 1, 1), np.float32), digests)
        writer.publish()
    job.files.write(FeatureCache(job.path))


def clocked(do: Callable[[], object]) -> dict[str, float]:
    before = resident_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    started = time.perf_counter()
    do()
    return {"seconds": time.perf_counter() - started, "MB": resident_mb("VmHWM") - before}


if __name__ == "__main__":
    if "--child" in sys.argv:
        print(json.dumps(work(sys.argv[2], Path(sys.argv[3]))))
    else:
        main(run)
