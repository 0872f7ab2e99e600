"""Small runs for predictions: photos, their cache, and heads of every kind on it."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.config import ExtractConfig, PredictConfig, TrainConfig
from pipeline.extraction.stage import extract
from pipeline.training.stage import train

COLOURS = {"ant": (150, 60, 40), "bee": (40, 70, 160), "cow": (70, 150, 60)}


def photo(rng: np.random.Generator, *names: str, size: tuple[int, int] = (40, 36)) -> Image.Image:
    """Noise in the colour of each class side by side."""
    width = size[0] // max(1, len(names))
    parts = [rng.normal(COLOURS[name], 40, (size[1], width, 3)) for name in names]
    whole = np.concatenate(parts or [rng.normal(128, 40, (size[1], width, 3))], axis=1)
    return Image.fromarray(whole.clip(0, 255).astype(np.uint8))


def one_class_each(folder: Path, train: int = 24, test: int = 9) -> Path:
    """FOLDER/SPLIT/CLASS/*.jpg and .png."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for i in range(count):
            name = list(COLOURS)[i % len(COLOURS)]
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            photo(rng, name).save(place / f"{i:02}.{('jpg', 'png')[i % 2]}")
    return folder


def several_labels(folder: Path, train: int = 40, test: int = 9) -> Path:
    """FOLDER/labels.csv and its photos, of none to all classes each."""
    rng, lines = np.random.default_rng(1), ["image,labels,split"]
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("test", test)):
        for i in range(count):
            names = [name for place, name in enumerate(COLOURS) if (i >> place) & 1]
            photo(rng, *names).save(folder / f"{split}{i:02}.png")
            lines.append(f"{split}{i:02}.png,{'|'.join(names)},{split}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def cache_of(dataset: str, folder: Path, **settings: Any) -> Path:
    return extract(ExtractConfig(dataset=dataset, cache=str(folder), device="cpu", decoders=1, **settings))


def head(cache: Path, out: Path, **settings: Any) -> Path:
    small = {"hidden": (8,), "epochs": 3, "batch": 8, "device": "cpu", "val_fraction": 0.25}
    unread = {"knn": 3, "logistic": 3}.get(settings.get("head", ""), 0)
    kept = dict(list(small.items())[unread:] if unread else small)
    return train(TrainConfig(cache=str(cache), out=str(out), **{**kept, **settings}))


def asking(*images: Path | str, run: Path, **settings: Any) -> PredictConfig:
    if images:
        settings = {"decoders": 1, **settings}
    return PredictConfig(images=tuple(map(str, images)), run=str(run), device="cpu", **settings)
