"""Many runs over images on the disk, by the code that makes runs: one sweep of heads on maps of noise, and
predictions of all of them on the test images.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from xxhash import xxh3_128_digest

from cache import CacheHeader, CacheWriter, FeatureCache
from pipeline.config import SweepConfig
from pipeline.datasets.base import open_dataset
from pipeline.evaluation.scored import Predictions
from pipeline.evaluation.stage import UNITS
from pipeline.files import write_json
from pipeline.metrics import single_label
from pipeline.runs.ledger import entries
from pipeline.training.sweep import sweep

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
SIDE = 24


def make(folder: Path, *, seeds: int, classes: int, train: int, test: int, folds: int | None = None) -> Path:
    """FOLDER/runs with a head for each of five rates and so many seeds; FOLDER/photos and FOLDER/cache. With
    `folds` also FOLDER/folds, a run with so many, and photos that are there twice."""
    names = [f"class {k:02}" for k in range(classes)]
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for i in range(count):
            photo = folder / "photos" / split / names[i % classes] / f"{i:05}.png"
            photo.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), np.uint8)
            Image.fromarray(pixels).resize((SIDE, SIDE)).save(photo, compress_level=1)
    if folds:
        plant_copies(folder / "photos", names)
    dataset = f"folder:{folder / 'photos'}"
    for split in open_dataset(dataset).values():
        _write_cache(folder / "cache", dataset, split)
    small: dict[str, Any] = {"head": ("linear",), "epochs": 5, "batch": 100, "device": "cpu"}
    where = {"cache": str(folder / "cache"), "out": str(folder / "runs")}
    sweep(SweepConfig(**where, lr=RATES, seed=tuple(range(seeds)), **small))
    if folds:
        judge: dict[str, Any] = {**where, **small, "folds": folds, "out": str(folder / "folds")}
        sweep(SweepConfig(**{**judge, "epochs": 30}))
    for number, entry in enumerate(entries(folder / "runs")):
        _evaluate(entry.folder, FeatureCache(folder / "cache/test.h5"), number)
    return folder


def plant_copies(photos: Path, names: list[str]) -> None:
    """Six images of the first class once more, in the second class; one of them in the test split as well,
    and with another compression under another name."""
    for path in sorted((photos / "train" / names[0]).iterdir())[:6]:
        shutil.copy(path, photos / "train" / names[1] / f"again-{path.name}")
    first = photos / "train" / names[0] / "00000.png"
    shutil.copy(first, photos / "test" / names[0] / "leak.png")
    Image.open(first).save(first.with_name("near.png"), compress_level=9)


def _write_cache(cache: Path, dataset: str, split: Any) -> None:
    patterns = np.random.default_rng(1).normal(size=(len(split.classes), 8, 2, 2))
    rng = np.random.default_rng(len(split))
    maps = patterns[split.labels] + 1.2 * rng.normal(size=(len(split), 8, 2, 2))
    base = Path(dataset.partition(":")[2])
    digests = [xxh3_128_digest((base / path).read_bytes()) for path in split.paths]
    maps = maps[[digests.index(digest) for digest in digests]]  # equal files have equal maps
    for row, path in enumerate(split.paths):
        if path.endswith("near.png"):
            maps[row] = maps[split.paths.index(path.replace("near", "00000"))] + 0.01
    header = CacheHeader(
        (len(split), 1, 8, 2, 2),
        "float16",
        split.labels,
        split.paths,
        split.classes,
        {"split": split.split, "trunk": {"name": "toy"}, "transform": {"image_px": SIDE}, "views": "plain"},
        notes={"dataset": dataset, "test_fraction": 0.2},
    )
    with CacheWriter(cache / f"{split.split}.h5", header) as writer:
        for rows in writer.missing:
            files = np.frombuffer(b"".join(digests[rows.start : rows.stop]), np.uint8).reshape(-1, 16)
            writer.write(rows, maps[rows.start : rows.stop, None].astype(np.float32), files)
        writer.publish()


def _evaluate(run: Path, test: FeatureCache, number: int) -> None:
    """RUN/eval as evaluate.py writes it, without the picture: of logits that are right most of the time."""
    rng = np.random.default_rng(number)
    logits = rng.normal(size=(len(test), len(test.classes))).astype(np.float32)
    labels = np.array(test.labels)
    logits[np.arange(len(test)), labels] += 2.5 + number / 1000
    contents = np.ascontiguousarray(test.image_digests).view("V16")[:, 0]
    found = Predictions(logits, labels, test.paths, np.array(test.classes), contents)
    cache = {"path": str(test.path), "key": test.key, "images": test.images_digest}
    found.save(run / "eval/predictions.npz", cache)
    scores = single_label.score(logits, labels, test.classes)
    facts = {"classes": list(test.classes), "trained_on": 0, "cache": cache}
    write_json(run / "eval/metrics.json", {**scores, **facts, "units": single_label.UNITS | UNITS})
