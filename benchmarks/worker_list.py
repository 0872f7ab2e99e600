"""What a worker of an extraction holds of a split's images, and how long it takes to read the list of them.

    python -m benchmarks.worker_list [--quick]

The list is written as a command writes it for its workers, of files that aren't there; a process of its own
reads it and plans its work, as a worker does before its first task. Counted is the resident memory that this
takes to keep, per image, beside the image's path; and the seconds, against what that worker then needs for a
file of 10,000 images at 6,000 images a second.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.alone import main, row
from benchmarks.scale import resident_mb
from cache import Paths
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit
from pipeline.datasets.files import FileReader
from pipeline.extraction.jobs import plan
from pipeline.extraction.listing import listing, read_listing
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform
from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk

BYTES = 45
"""What an image may take beside its path."""
SECONDS_OF_A_FILE = 10_000 / 6_000


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs (what it may take), ratio, target, unit."""
    images = 200_000 if quick else 4_000_000
    with tempfile.TemporaryDirectory() as folder, listing(Path(folder), {"train": listed(images)}) as path:
        child = [sys.executable, "-m", "benchmarks.worker_list", "--child", str(path)]
        said = subprocess.run(child, capture_output=True, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    name = f"A worker's list of {images:,} images"
    return [
        row(f"{name}: bytes an image beside its path", found["bytes"], BYTES, 1.0, "bytes"),
        row(f"{name}: to read and plan, once", found["seconds"], SECONDS_OF_A_FILE, 0, "s")
        | {"target": "none"},
    ]


def listed(images: int) -> ImageSplit:
    """A split of files that aren't there."""
    paths = Paths.stored(
        b"".join(b"n%05d/n%05d_%09d.jpg\0" % (i // 1000, i // 1000, i) for i in range(images))
    )
    statuses = np.arange(3 * images, dtype=np.int64).reshape(-1, 3)
    labels = np.arange(images) // 1000
    classes = tuple(f"n{i:05}" for i in range(labels[-1] + 1))
    reader = FileReader("photos/", paths, statuses)
    return ImageSplit("folder", "train", classes, paths, statuses[:, 0], labels, reader)


def measure(path: Path) -> dict[str, float]:
    """Bytes per image beside its path, and seconds, of a worker that gets ready."""
    config = ExtractConfig(dataset="folder:photos", cache=str(path.parent), dtype="float32")
    trunk = Trunk("pixel", 1, nn.Conv2d(3, 1, 1), Transform(image_px=1, mean=(0, 0, 0), std=(1, 1, 1)), "")
    prepared = PreparedTrunk(trunk, torch.device("cpu"))
    before, started = resident_mb("VmRSS"), time.perf_counter()
    splits = read_listing(path)
    assert splits
    with Decoders([], 1) as none:
        job = plan(config, trunk, prepared, splits["train"], none, workers=8, grows=False)
    seconds, held = time.perf_counter() - started, resident_mb("VmRSS") - before
    paths = job.split.paths
    return {"bytes": held * 2**20 / len(paths) - len(paths.data) / len(paths), "seconds": seconds}


if __name__ == "__main__":
    if "--child" in sys.argv:
        print(json.dumps(measure(Path(sys.argv[-1]))))
    else:
        main(run)
