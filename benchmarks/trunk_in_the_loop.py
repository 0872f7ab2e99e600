"""A head experiment of 20 epochs on cached maps, against the same with the trunk in the loop.

    python -m benchmarks.trunk_in_the_loop [--quick]

    ours     FullNet-512 on ten crops, batch 512, on the maps of a cache; with and without its extraction
    theirs   the same engine, but each batch's images go through the trunk first: eager and in float32, as one
             writes it, on decoded images in RAM

2,048 images and all 20 epochs on both sides; nothing is extrapolated. Both see the same images in the same
order, and their losses are compared: those on the cache differ by the rounding to float16.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.alone import main
from benchmarks.head_epoch import EPOCHS, make_trainer, prepare
from benchmarks.images import make_jpegs
from cache import FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.base import open_dataset
from pipeline.extract import extract
from pipeline.maps import Batches
from pipeline.network import load_images, normalise
from pipeline.source import Source
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.base import Trunk

TOLERANCE = 1e-2


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    images, epochs = (512, 2) if quick else (2048, EPOCHS)
    with tempfile.TemporaryDirectory() as folder:
        photos = make_jpegs(Path(folder) / "photos", images)
        dataset = f"folder:{photos}"
        started = time.perf_counter()
        out = extract(ExtractConfig(dataset=dataset, cache=str(Path(folder) / "cache"), device="cpu"))
        extracting = time.perf_counter() - started
        trunk = load()
        split = open_dataset(dataset)["train"]
        pixels = load_images(split, trunk.transform, workers=0)
        started = time.perf_counter()
        source, maps = prepare(FeatureCache(out / "train.h5"))
        preparing = time.perf_counter() - started
        ours, loss = train(source, maps, epochs)
        theirs, expected = train(source, LoopMaps(source, trunk, pixels, split.labels), epochs)
    assert abs(loss - expected) < TOLERANCE * expected, f"learned something else: {loss} and {expected}"
    name = f"{epochs} epochs of FullNet-512 ten-crop against the same with the trunk in the loop"
    sides = {name: preparing + ours, f"{name}, extraction included": extracting + preparing + ours}
    return [
        {
            "name": name,
            "ours": seconds,
            "theirs": theirs,
            "ratio": theirs / seconds,
            "target": target,
            "unit": "s",
        }
        for (name, seconds), target in zip(sides.items(), (15.0, 10.0), strict=True)
    ]


def train(source: Source, maps: Any, epochs: int) -> tuple[float, float]:
    """Seconds, and the mean loss of the last epoch."""
    trainer = make_trainer(source, maps, [0], 512, epochs)
    started = time.perf_counter()
    lines = [trainer.epoch(number)[0] for number in range(epochs)]
    return time.perf_counter() - started, lines[-1]["train_loss"]


class LoopMaps:
    """Batches of a head's inputs, for which the trunk runs each time."""

    def __init__(self, source: Source, trunk: Trunk, pixels: torch.Tensor, labels: np.ndarray) -> None:
        self.source, self.trunk, self.pixels, self.labels = source, trunk, pixels, torch.tensor(labels)

    @torch.no_grad()
    def maps(self, rows: torch.Tensor) -> np.ndarray:
        """(B, 1, C, H, W) float32."""
        return self.trunk.module(normalise(self.pixels[rows], self.trunk.transform))[:, None].numpy()

    def batches(self, size: int, rng: np.random.Generator | None) -> Batches:
        count = len(self.labels)
        order = np.arange(count) if rng is None else rng.permutation(count)
        if rng is not None:
            rng.integers(1, size=count)  # views, as PreparedMaps draws them
        for rows in torch.from_numpy(order).split(size):
            yield self.source.prepare(self.maps(rows)), self.labels[rows]


if __name__ == "__main__":
    main(run)
