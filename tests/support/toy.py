"""A small cache whose classes can be learned, and short runs on it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from cache import CacheHeader, CacheWriter, fit_scales
from pipeline.config import TrainConfig
from pipeline.config.extract import view_count

CLASSES = ("ant", "bee", "cow")


def write_cache(
    folder: Path,
    images: int = 90,
    *,
    views: str = "plain",
    shape: tuple[int, int, int] = (4, 5, 5),
    dtype: str = "float32",
    noise: float = 1.0,
    split: str = "train",
    maps: np.ndarray | None = None,
) -> Path:
    """FOLDER/train.h5 with three classes in turn; a class is a level per channel and a pattern. `maps` are
    stored in their place."""
    stored = view_count(views)
    rng = np.random.default_rng(0)
    labels = np.arange(images) % len(CLASSES)
    patterns = rng.normal(size=(len(CLASSES), 1, *shape))
    patterns += 4 * rng.normal(size=(len(CLASSES), 1, shape[0], 1, 1))
    if maps is None:
        maps = patterns[labels] + noise * rng.normal(size=(images, stored, *shape))
    header = CacheHeader(
        shape=(images, stored, *shape),
        dtype=dtype,
        labels=labels,
        paths=[f"{i}.png" for i in range(images)],
        classes=CLASSES,
        identity={"views": views, "trunk": {"name": "toy"}},
        scales=fit_scales([maps]) if dtype == "int8" else None,
    )
    write(folder / f"{split}.h5", header, maps)
    return folder


def write(path: Path, header: CacheHeader, maps: np.ndarray, image: int = 7) -> None:
    """`image` stands for what is in the image files, which differ among each other and between splits."""
    with CacheWriter(path, header) as writer:
        for rows in writer.missing:
            digests = file_digests(f"{path.name} {header.paths[row]} {image}" for row in rows)
            writer.write(rows, maps[rows.start : rows.stop].astype(np.float32), digests)
        writer.publish()


def file_digests(files: Iterable[str]) -> np.ndarray:
    """(n, 16): digests of images, as different as these texts."""
    digests = [hashlib.blake2b(file.encode(), digest_size=16).digest() for file in files]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def config(cache: Path, out: Path, **settings: Any) -> TrainConfig:
    """A short run of a small FullNet in float64, so that equal means equal."""
    small = {"hidden": (6,), "epochs": 4, "batch": 16, "precision": "float64", "device": "cpu"}
    return TrainConfig(cache=str(cache), out=str(out), **{**small, **settings})


def write_multilabel_cache(
    folder: Path,
    images: int = 120,
    *,
    views: str = "plain",
    shape: tuple[int, int, int] = (4, 5, 5),
    split: str = "train",
) -> Path:
    """FOLDER/train.h5 with three classes, any of which an image may have; each is a level per channel, at a
    random cell. Some labels are not counted, some images have none. Test images are other draws."""
    rng = np.random.default_rng(("train", "test").index(split))
    labels = (rng.random((images, len(CLASSES))) < [0.2, 0.4, 0.5]).astype(np.int8)
    levels = 6 * np.eye(len(CLASSES), shape[0])
    maps = rng.normal(size=(images, view_count(views), *shape))
    for image, label in zip(*np.nonzero(labels), strict=True):
        maps[image, :, :, rng.integers(shape[1]), rng.integers(shape[2])] += levels[label]
    labels[rng.random(labels.shape) < 0.05] = -1
    header = CacheHeader(
        shape=maps.shape,
        dtype="float32",
        labels=labels,
        paths=[f"{split}/{i}.png" for i in range(images)],
        classes=CLASSES,
        identity={"views": views, "trunk": {"name": "toy"}},
    )
    write(folder / f"{split}.h5", header, maps)
    return folder
