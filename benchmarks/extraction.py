"""Extraction of JPEG files to a published cache, against the trunk's bare forward pass on tensors in RAM.

    python -m benchmarks.extraction [--quick]

    ours     from the list of files to the synced and published file: layout, decoding, trunk, writing
    theirs   the same prepared trunk over the decoded images, in the same batches, a stream per core too

50,000 images. Without the start of the program, the listing of the folder and the comparison with the live
trunk. Sides take turns, the best of each counts, and the cache has to hold the very numbers of the bare
forward pass.
"""

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.alone import main
from benchmarks.images import make_jpegs
from cache import FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.extraction.jobs import plan
from pipeline.extraction.make import make
from pipeline.extraction.overlap import Streams
from pipeline.extraction.work import trunk_of
from pipeline.images.pool import Decoders
from pipeline.images.views import Views
from pipeline.pretraining.network import load_images
from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk, map_shape


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    images, repeats = (1024, 1) if quick else (50_000, 2)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        photos = make_jpegs(Path(folder) / "photos", images)
        config = ExtractConfig(dataset=f"folder:{photos}", cache=str(Path(folder) / "cache"), device="cpu")
        config.cache_dir.mkdir()
        trunk, split = trunk_of(config), open_dataset(config.dataset)["train"]
        prepared = PreparedTrunk(trunk, torch.device("cpu"))
        pixels = load_images(split, trunk.transform, decoders=None).contiguous().numpy()
        bare_forward(prepared, pixels[:1024])
        for _ in range(repeats):
            seconds, maps = bare_forward(prepared, pixels)
            theirs.append(seconds)
            seconds, path = extraction(config, trunk, prepared, split)
            ours.append(seconds)
            assert np.array_equal(FeatureCache(path).features, maps.half()), "the cache holds other maps"
            path.unlink()
    return [
        {
            "name": f"extraction of {images:,} JPEGs to a published cache against the bare forward pass",
            "ours": images / min(ours),
            "theirs": images / min(theirs),
            "ratio": min(theirs) / min(ours),
            "target": 0.95,
            "unit": "images/s",
        }
    ]


def extraction(
    config: ExtractConfig, trunk: Trunk, prepared: PreparedTrunk, split: ImageSplit
) -> tuple[float, Path]:
    """Seconds, and the cache."""
    started = time.perf_counter()
    with Decoders([split], config.decoders) as decoders:
        job = plan(config, trunk, prepared, split, decoders)
        make([job], prepared, decoders)
    return time.perf_counter() - started, job.path


def bare_forward(prepared: PreparedTrunk, pixels: np.ndarray) -> tuple[float, torch.Tensor]:
    """Seconds, and the maps (N, 1, C, H, W) of uint8 images (N, 3, S, S)."""
    batch, count = prepared.best_batch, len(pixels)
    maps = torch.empty(count, 1, *map_shape(prepared, pixels.shape[-1]))
    with closing(Streams(prepared, Views("plain", count, 0), encode=lambda _, maps: maps)) as streams:
        started = time.perf_counter()
        for done in [
            streams.submit(pixels[at:][:batch], range(count)[at:][:batch], maps[at:][:batch])
            for at in range(0, count, batch)
        ]:
            done.result()
        seconds = time.perf_counter() - started
    return seconds, maps


if __name__ == "__main__":
    main(run)
