"""The trunk's forward pass on images in RAM: as extraction runs it, against the eager module as written.

    python -m benchmarks.trunk_forward [--quick]

    ours     the prepared trunk: uint8 in, fused or in blocked layout, a batch of its own for each core
    theirs   normalise, then the float32 module as written, batches of 256 or 32 images on all cores

Sides take turns, the best of each counts. Their maps may differ by a 10,000th of the largest value.
"""

import time
from typing import Any

import torch

from benchmarks.alone import main
from benchmarks.extraction import bare_forward
from pipeline.trunks import load_trunk
from pipeline.trunks.base import normalise
from pipeline.trunks.prepare import PreparedTrunk

TOLERANCE = 1e-4
TRUNKS = {  # specification → weights, batch of theirs, target
    "alexnet-cifar": (None, 256, 1.5),
    "alexnet-cifar-wide": (None, 256, 1.3),
    "efficientnet-lite0": (None, 32, 1.3),
    "timm:resnet18": ("none", 32, 1.3),
    "timm:vit_tiny_patch16_224": ("none", 32, 1.1),
}


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    return [_compare(spec, *how, quick=quick) for spec, how in TRUNKS.items()]


def _compare(spec: str, weights: str | None, batch: int, target: float, *, quick: bool) -> dict[str, Any]:
    trunk = load_trunk(spec, weights)
    side = trunk.transform.image_px
    count, repeats = (batch, 1) if quick else (8 * batch if side < 64 else 2 * batch, 4)
    prepared = PreparedTrunk(trunk, torch.device("cpu"))
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8)
    ours, theirs = [], []
    for _ in range(repeats):
        with torch.inference_mode():
            started = time.perf_counter()
            maps = [trunk.module(normalise(part, trunk.transform)) for part in images.split(batch)]
            expected = torch.cat(maps)
            theirs.append(time.perf_counter() - started)
        seconds, found = bare_forward(prepared, images.numpy())
        ours.append(seconds)
        difference = (found[:, 0] - expected).abs().max() / expected.abs().max()
        assert difference < TOLERANCE, f"the prepared trunk computes other maps: {difference:.2g}"
    return {
        "name": f"trunk forward, {spec}, prepared, against the eager float32 module, batch {batch}",
        "ours": count / min(ours),
        "theirs": count / min(theirs),
        "ratio": min(theirs) / min(ours),
        "target": target,
        "unit": "images/s",
    }


if __name__ == "__main__":
    main(run)
