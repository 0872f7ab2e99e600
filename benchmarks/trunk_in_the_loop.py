"""A head experiment of 20 epochs on cached maps, against the same with the trunk in the loop.

    python -m benchmarks.trunk_in_the_loop [--quick]

    ours     FullNet-512 on ten crops, batch 512, on the maps of a cache; with and without its extraction
    files    the same engine, but each batch's images go through the trunk first, eager and in float32, as one
             writes it: a DataLoader that decodes the image files, which is what a dataset on disk asks for
    pixels   the same, but all images lie decoded in RAM, which only a small dataset allows

2,048 images and all 20 epochs on all sides; nothing is extrapolated. They see the same images in the same
order, and their losses are compared: those on the cache differ by the rounding to float16. The DataLoader has
no workers, since the trunk has use for every core.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.functional import pil_to_tensor

from benchmarks.alone import main, row
from benchmarks.head_epoch import EPOCHS, make_trainer, prepare
from benchmarks.head_rivals import BATCH
from benchmarks.images import make_jpegs
from cache import FeatureCache, Labels
from pipeline.config import ExtractConfig
from pipeline.datasets.base import open_dataset
from pipeline.extraction.stage import extract
from pipeline.maps.batches import Batch, Maps
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.pretraining.network import load_images
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.base import Trunk, normalise

TOLERANCE = 1e-2
Read = Callable[[torch.Tensor], Iterator[torch.Tensor]]
"""The order of the images, (N,) → batches of them, (B, 3, S, S) uint8."""


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
        pixels = load_images(split, trunk.transform, decoders=None)
        started = time.perf_counter()
        source, maps = prepare(FeatureCache(out / "train.h5"))
        preparing = time.perf_counter() - started
        ours, loss = train(source, maps, epochs)
        loops = {
            "files": decoding([photos / path for path in split.paths]),
            "pixels": lambda order: (pixels[rows] for rows in order.split(BATCH)),
        }
        theirs = {}
        for name, read in loops.items():
            theirs[name], expected = train(source, LoopMaps(source, trunk, read, split.labels), epochs)
            assert abs(loss - expected) < TOLERANCE * expected, f"learned something else: {loss}, {expected}"
    name = f"{epochs} epochs of FullNet-512 ten-crop against the trunk in the loop"
    cached, whole = preparing + ours, extracting + preparing + ours
    return [
        row(f"{name}, on image files", cached, theirs["files"], 15.0, "s"),
        row(f"{name}, on image files, extraction included", whole, theirs["files"], 10.0, "s"),
        row(f"{name}, on pixels in RAM", cached, theirs["pixels"], 15.0, "s"),
        row(f"{name}, on pixels in RAM, extraction included", whole, theirs["pixels"], 10.0, "s"),
    ]


def train(source: Source, maps: Any, epochs: int) -> tuple[float, float]:
    """Seconds, and the mean loss of the last epoch."""
    trainer = make_trainer(source, maps, [0], 512, epochs)
    started = time.perf_counter()
    lines = [trainer.epoch(number)[0] for number in range(epochs)]
    return time.perf_counter() - started, lines[-1]["train_loss"]


class Photos(Dataset[torch.Tensor]):
    """As torchvision's ImageFolder gives them, of a size already."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        return pil_to_tensor(Image.open(self.paths[row]).convert("RGB"))  # (3, S, S) uint8


def decoding(paths: list[Path]) -> Read:
    return lambda order: iter(DataLoader(Photos(paths), batch_size=BATCH, sampler=order.tolist()))


class LoopMaps(Maps):
    """Batches of a head's inputs, for which the trunk runs each time."""

    def __init__(self, source: Source, trunk: Trunk, read: Read, labels: Labels) -> None:
        super().__init__(source, Part(np.arange(len(labels)), labels))
        self.trunk, self.read = trunk, read

    @torch.no_grad()
    def maps(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) uint8 → (B, 1, C, H, W) float32."""
        return self.trunk.module(normalise(images, self.trunk.transform))[:, None]

    def shuffled(self, memory: Batch, rng: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        assert len(memory.labels) == BATCH
        order = torch.from_numpy(rng.permutation(len(self.labels)))[skip * BATCH :]
        for rows, images in zip(order.split(BATCH), self.read(order), strict=True):
            yield Batch(self.source.inputs(self.maps(images)), self.labels[rows])


if __name__ == "__main__":
    main(run)
