"""What a GPU is for: heads, a sweep, the trunk and an extraction, on the GPU that is there. None, no lines.

    python -m benchmarks.on_gpu [--quick]

    heads        20 epochs of FullNet-512 on ten crops of 50,000 maps, from the prepared maps to the last loss
    sweep        32 heads (hidden 64) in one pass against 32 runs; a run records its step anew. Once with the
                 maps prepared for all of them, once with each run preparing its own from the cache
    trunk        the prepared trunk, float16, against the eager float32 module with TF32 as torch sets it
    extraction   60,000 JPEGs to a synced and published file, after start-up: the folder is listed, the
                 weights are on the GPU and the workers have begun

Absolute times are compared with the times asked for, so the ratio is at least 1 where they are kept. The
losses of the first epochs have to be those of a CPU, and the maps those of the eager module.
"""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.alone import main, row
from benchmarks.extraction import bare_forward
from benchmarks.head_epoch import HEADS, make_cache, make_trainer, prepare
from benchmarks.images import make_jpegs
from cache import FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.base import open_dataset
from pipeline.device import set_up
from pipeline.extraction.jobs import plan
from pipeline.extraction.make import make
from pipeline.extraction.work import trunk_of
from pipeline.images.pool import Decoders
from pipeline.maps.batches import MapsInMemory
from pipeline.maps.source import Source
from pipeline.pretraining.network import load_images
from pipeline.trunks.alexnet_cifar import load
from pipeline.trunks.base import normalise
from pipeline.trunks.prepare import PreparedTrunk

EPOCHS = 20
DTYPES = {"TF32": torch.float32, "bfloat16": torch.bfloat16}


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    if not torch.cuda.is_available():
        return []
    device = torch.device("cuda")
    torch.backends.cudnn.deterministic = True
    rows = [trunk_forward(device)]
    set_up(device, tf32=False)
    rows.append(extraction(device, 2048 if quick else 60_000))
    set_up(device, tf32=True)
    with tempfile.TemporaryDirectory() as folder:
        cache = make_cache(Path(folder) / "train.h5", 2048 if quick else 50_000)
        expected = reference(cache)
        for name, dtype in DTYPES.items():
            source, maps = prepare(cache, device, dtype)
            rows.append(twenty_epochs(name, source, maps, expected))
            rows += sweep(name, cache, source, maps)
    return rows


def reference(cache: FeatureCache) -> float:
    """The loss of the first of 20 epochs on the CPU."""
    source, maps = prepare(cache)
    return make_trainer(source, maps, [0], 512, EPOCHS).epoch(0)[0]["train_loss"]


def twenty_epochs(name: str, source: Source, maps: MapsInMemory, expected: float) -> dict[str, Any]:
    seconds = []
    for _ in range(3):
        trainer = make_trainer(source, maps, [0], 512, EPOCHS)
        torch.cuda.synchronize()
        started = time.perf_counter()
        losses = [trainer.epoch(epoch)[0]["train_loss"] for epoch in range(EPOCHS)]
        seconds.append(time.perf_counter() - started)
        assert abs(losses[0] - expected) < 5e-3 * expected, f"{losses[0]} on the GPU, {expected} on the CPU"
    named = f"{EPOCHS} epochs of FullNet-512 on {len(maps.labels):,} maps, {name}, against what is asked for"
    return row(named, min(seconds), 0.5, 1.0, "s")


def sweep(name: str, cache: FeatureCache, source: Source, maps: MapsInMemory) -> list[dict[str, Any]]:
    def train(seeds: list[int]) -> tuple[float, list[float]]:
        torch.cuda.synchronize()
        started = time.perf_counter()
        trainer = make_trainer(source, maps, seeds, 64, EPOCHS)
        lines = [trainer.epoch(epoch) for epoch in range(EPOCHS)][-1]
        return time.perf_counter() - started, [line["train_loss"] for line in lines]

    def load() -> float:
        torch.cuda.synchronize()
        started = time.perf_counter()
        prepare(cache, source.device, source.dtype)
        torch.cuda.synchronize()
        return time.perf_counter() - started

    train(list(range(HEADS)))  # libraries set themselves up
    together, losses = train(list(range(HEADS)))
    singly = [train([seed]) for seed in range(HEADS)]
    alone = [loss for _, (loss,) in singly]
    assert np.allclose(losses, alone, rtol=2e-2), f"heads end otherwise in one pass: {losses}, {alone}"
    runs, loading = sum(seconds for seconds, _ in singly), min(load() for _ in range(3))
    named = f"{HEADS} heads (hidden 64) in one pass against {HEADS} runs, {EPOCHS} epochs, {name}"
    return [
        row(named, together, runs, 20.0, "s"),
        row(f"{named}, each from the cache", loading + together, HEADS * loading + runs, 20.0, "s"),
    ]


def trunk_forward(device: torch.device, batch: int = 256) -> dict[str, Any]:
    trunk = load()
    prepared, eager = PreparedTrunk(trunk, device), load().module.to(device)
    images = torch.randint(0, 256, (batch, 3, 32, 32), dtype=torch.uint8).to(device)
    with torch.inference_mode():
        sides = [lambda: prepared(images), lambda: eager(normalise(images, trunk.transform))]
        ours, theirs = (side() for side in sides)
        difference = (ours.float() - theirs).abs().max() / theirs.abs().max()
        assert difference < 5e-3, f"the prepared trunk computes other maps: {difference:.2g}"
        times = [[gpu_seconds(side) for side in sides] for _ in range(3)]
    best = [min(of_side) for of_side in zip(*times, strict=True)]
    named = f"trunk forward, prepared in float16, against the eager module in TF32, batch {batch}"
    return row(named, best[0], best[1], 2.0, "s")


def extraction(device: torch.device, images: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        photos = make_jpegs(Path(folder) / "photos", images)
        config = ExtractConfig(dataset=f"folder:{photos}", cache=f"{folder}/cache", device="auto")
        splits = list(open_dataset(config.dataset).values())
        with Decoders(splits, 0) as decoders:
            trunk = trunk_of(config)
            prepared, seconds = PreparedTrunk(trunk, device), []
            for _ in range(4):  # in the first, workers and libraries set themselves up
                shutil.rmtree(config.cache_dir, ignore_errors=True)
                config.cache_dir.mkdir()
                started = time.perf_counter()
                for split in splits:
                    make([plan(config, trunk, prepared, split, decoders)], prepared, decoders)
                seconds.append(time.perf_counter() - started)
        pixels = load_images(splits[0], trunk.transform, decoders=None).contiguous().numpy()
        expected, found = (
            bare_forward(prepared, pixels)[1].half(),
            FeatureCache(config.cache_dir / "train.h5"),
        )
        assert np.array_equal(found.features, expected), "the cache holds other maps"
    named = f"extraction of {images:,} JPEGs to a published cache, after start-up, against what is asked for"
    return row(named, min(seconds[1:]), 2.0, 1.0, "s")


def gpu_seconds(call: Any, repeats: int = 50) -> float:
    """What a call takes, the GPU's work included."""
    call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    torch.cuda.synchronize()
    return (time.perf_counter() - started) / repeats


if __name__ == "__main__":
    main(run)
