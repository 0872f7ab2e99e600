"""The trunk's forward pass on images in RAM: as extraction runs it, against the eager module as written.

    python -m benchmarks.trunk_forward [--quick]

    ours     the prepared trunk: uint8 in, folded, in blocked layout, a batch of its own for each core
    theirs   normalise, then the float32 module as written, 256 images at a time on all cores

Sides take turns, the best of each counts. Their maps may differ by a 10,000th of the largest value.
"""

import time
from typing import Any

import torch

from benchmarks.alone import main
from benchmarks.extraction import bare_forward
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.base import normalise
from pipeline.trunks.prepare import PreparedTrunk

BATCH = 256
TOLERANCE = 1e-4


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    count, repeats = (BATCH, 1) if quick else (8 * BATCH, 4)
    trunk = load()
    prepared = PreparedTrunk(trunk, torch.device("cpu"))
    images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
    ours, theirs = [], []
    for _ in range(repeats):
        with torch.inference_mode():
            started = time.perf_counter()
            expected = torch.cat(
                [trunk.module(normalise(part, trunk.transform)) for part in images.split(BATCH)]
            )
            theirs.append(time.perf_counter() - started)
        seconds, maps = bare_forward(prepared, images.numpy())
        ours.append(seconds)
        difference = (maps[:, 0] - expected).abs().max() / expected.abs().max()
        assert difference < TOLERANCE, f"the prepared trunk computes other maps: {difference:.2g}"
    return [
        {
            "name": f"trunk forward, prepared, against the eager float32 module, batch {BATCH}",
            "ours": count / min(ours),
            "theirs": count / min(theirs),
            "ratio": min(theirs) / min(ours),
            "target": 1.5,
            "unit": "images/s",
        }
    ]


if __name__ == "__main__":
    main(run)
