"""Recurrent attention on cached maps of vgg16 at 448 px, against the same with the trunk in the loop.

    python -m benchmarks.attention_in_the_loop [--quick]

    ours     the training engine on the maps of a cache, prepared once
    theirs   the same engine, but each batch's images go through vgg16 first, in float32, as tensors in RAM

The trunk has random weights, which take as long as trained ones. A few images, one epoch of each; seconds are
per image and epoch. Both see the same images in the same order, and their losses are compared: those on the
cache differ by the rounding to float16.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.models import vgg16

from benchmarks.alone import main
from benchmarks.attention import MAP, WIDTH
from benchmarks.attention_rivals import CLASSES, DECAY, LR
from benchmarks.head_epoch import CPU, clocked
from cache import CacheHeader, CacheWriter, FeatureCache
from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.recurrent_attention import RecurrentAttention
from pipeline.maps.batches import Batch, Maps, MapsInMemory
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.training.optimizer import StackedAdam
from pipeline.training.trainer import Plan, Trainer

PX, BATCH, TOLERANCE = 448, 16, 1e-2


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    images, width, repeats = (2, 32, 1) if quick else (BATCH, WIDTH, 4)
    trunk = vgg16(weights=None).features.eval()
    pixels = torch.randn(images, 3, PX, PX, generator=torch.Generator().manual_seed(0))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder) / "train.h5", forward(trunk, pixels))
        for crops in ("full", "ten"):
            head, source = open_head(cache, crops, width)
            maps = MapsInMemory(source, Part(np.arange(images), cache.labels), 1, "maps")
            ours, loss = min(epoch(head, maps) for _ in range(repeats))
            theirs, expected = epoch(head, LoopMaps(source, trunk, pixels))
            assert abs(loss - expected) < TOLERANCE * expected, f"learned something else: {loss}, {expected}"
            name = f"recurrent attention ({crops}) on cached maps against vgg16 at {PX} px in the loop"
            rows.append(
                {
                    "name": name,
                    "ours": ours / images,
                    "theirs": theirs / images,
                    "ratio": theirs / ours,
                    "target": 10.0,
                    "unit": "s per image and epoch",
                }
            )
    return rows


@torch.no_grad()
def forward(trunk: torch.nn.Module, pixels: Tensor) -> Tensor:
    """(n, 3, PX, PX) → maps (n, C, H, W), a few images at a time."""
    return torch.cat([trunk(few) for few in pixels.split(4)])


def make_cache(path: Path, maps: Tensor) -> FeatureCache:
    """These maps as float16, each image of a random class."""
    header = CacheHeader(
        shape=(len(maps), 1, *MAP),
        dtype="float16",
        labels=np.random.default_rng(0).integers(CLASSES, size=len(maps)),
        paths=[f"{i}.png" for i in range(len(maps))],
        classes=[str(i) for i in range(CLASSES)],
        identity={"views": "plain"},
    )
    with CacheWriter(path, header) as writer:
        for rows in writer.missing:
            block = maps[rows.start : rows.stop, None].numpy()
            writer.write(rows, block, np.zeros((len(rows), 16), np.uint8))
        writer.publish()
    return FeatureCache(path)


def open_head(
    cache: FeatureCache,
    crops: str,
    width: int,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
    region_start: str = "anchors",
) -> tuple[RecurrentAttention, Source]:
    settings: dict[str, Any] = {"crops": crops, "region_start": region_start}
    config = TrainConfig(head="recurrent-attention", loss="bce", hidden=(width,), **settings)
    head = RecurrentAttention(HeadSpec(config, MAP, CLASSES, (0,))).to(device)
    normaliser = Normaliser(MAP[0]).to(device)
    source = Source(cache, head.views, head.prepare, normaliser, dtype, device, verify=True)
    source.fit_normaliser(np.arange(len(cache)))
    return head, source


def epoch(head: RecurrentAttention, maps: Maps) -> tuple[float, float]:
    """Seconds and the mean loss of an epoch, from the first weights."""
    start = {name: p.detach().clone() for name, p in head.named_parameters()}
    optimizer = StackedAdam(dict(head.named_parameters()), [LR], [DECAY])
    trainer = Trainer(head, optimizer, maps, None, Plan(1, BATCH, len(maps.labels), 0))
    lines: list[dict[str, Any]] = []
    seconds = clocked(lambda: lines.extend(trainer.epoch(0)))
    head.load_state_dict(start, strict=False)
    return seconds, lines[0]["train_loss"]


class LoopMaps(Maps):
    """Batches of a head's inputs, for which the trunk runs each time."""

    def __init__(self, source: Source, trunk: torch.nn.Module, pixels: Tensor) -> None:
        super().__init__(source, Part(np.arange(len(pixels)), source.cache.labels))
        self.trunk, self.pixels = trunk, pixels

    def shuffled(self, memory: Batch, rng: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        order = torch.from_numpy(rng.permutation(len(self.labels)))
        for rows in order.split(len(memory.labels))[skip:]:
            maps = forward(self.trunk, self.pixels[rows])[:, None]
            yield Batch(self.source.inputs(maps), self.labels[rows])


if __name__ == "__main__":
    main(run)
