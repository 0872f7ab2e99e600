"""Predictions on JPEG files, to a CSV file, against the extraction of the same files to a published cache.

    python -m benchmarks.prediction [--quick]

    ours     from the list of files to the finished CSV: decoding, trunk, FullNet-512 on ten crops, writing
    theirs   from the list of files to the synced and published cache: decoding, trunk, writing

20,000 images through `alexnet-cifar`, so that the head's share is as large as it gets. Without the start of
the program. Sides take turns, the best of each counts, and the logits have to be the head's on the cache.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.alone import main
from benchmarks.extraction import extraction
from benchmarks.images import make_jpegs
from cache import FeatureCache
from pipeline.config import ExtractConfig, PredictConfig, TrainConfig
from pipeline.datasets.base import open_dataset
from pipeline.datasets.unlabelled import photos
from pipeline.evaluation.logits import maps_for
from pipeline.extraction.work import trunk_of
from pipeline.images.pool import Decoders
from pipeline.prediction.predictor import Predictor
from pipeline.prediction.stage import grown, of_photos, run_through
from pipeline.training.stage import train
from pipeline.trunks.prepare import PreparedTrunk


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    images, repeats = (1024, 1) if quick else (20_000, 3)
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_jpegs(folder / "photos", images)
        config = ExtractConfig(dataset=f"folder:{files}", cache=str(folder / "cache"), device="cpu")
        config.cache_dir.mkdir()
        trunk, split = trunk_of(config), open_dataset(config.dataset)["train"]
        prepared = PreparedTrunk(trunk, torch.device("cpu"))
        _, path = extraction(config, trunk, prepared, split)
        head = train(TrainConfig(cache=config.cache or "", out=f"{folder}/run", epochs=1, device="cpu"))
        predictor, cache = Predictor(head, "cpu"), FeatureCache(path)
        logits = predictor.logits(maps_for(predictor.head, cache, np.arange(64))).numpy()
        found = predictor.predict([files / image for image in split.paths[:64]]).logits
        np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-5)
        for number in range(repeats):
            path.unlink()
            theirs.append(extraction(config, trunk, prepared, split)[0])
            ours.append(prediction(predictor, files / "train", folder / f"{number}.csv"))
    return [
        {
            "name": f"predictions on {images:,} JPEGs by FullNet-512 on ten crops against their extraction",
            "ours": images / min(ours),
            "theirs": images / min(theirs),
            "ratio": min(theirs) / min(ours),
            "target": 0.9,
            "unit": "images/s",
        }
    ]


def prediction(run: Predictor, files: Path, out: Path) -> float:
    """Seconds of all predictions on the files of a folder."""
    config = PredictConfig(images=(str(files),), out=str(out), show=0)
    split = photos(config.images)
    started = time.perf_counter()
    with Decoders([split], config.decoders) as decoders:
        source = of_photos(run, split, decoders, config.batch)
        with grown(config, out, run, source) as file:
            run_through(config, run, source, file)
    return time.perf_counter() - started


if __name__ == "__main__":
    main(run)
