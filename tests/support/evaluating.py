"""Synthetic caches of six classes, heads trained on them, and what scores they should get."""

import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from cache import CacheHeader, CacheWriter, FeatureCache, Paths, fit_scales
from pipeline.config import EvaluateConfig, TrainConfig
from pipeline.evaluation.scored import Predictions
from pipeline.runs.folder import load_head
from pipeline.training.stage import train
from support.toy import file_digests

CLASSES = ("ant", "bee", "cow", "dog", "eel", "fox")
IDENTITY = {
    "trunk": {"name": "toy", "version": 1, "weights": "ab" * 32},
    "transform": {"image_px": 32},
    "views": "plain",
    "precision": "float32",
}


def write_split(
    folder: Path, split: str, images: int, *, dtype: str = "float16", image: str = "", **changed: Any
) -> Path:
    """FOLDER/SPLIT.h5: six classes in random order, each a pattern under noise on maps of 3×5×5. `image`
    stands for what is in the image files, besides their names."""
    identity = {**IDENTITY, "split": split, "image_sizes": split, **changed}
    views = 2 if identity["views"] == "mirror" else 1
    rng = np.random.default_rng([images, len(split)])
    labels = rng.integers(len(CLASSES), size=images)
    patterns = np.random.default_rng(0).normal(size=(len(CLASSES), 1, 3, 5, 5))
    maps = patterns[labels] + 1.5 * rng.normal(size=(images, views, 3, 5, 5))
    paths = [f"{split}/{CLASSES[label]}/{i}.png" for i, label in enumerate(labels)]
    scales = fit_scales([maps]) if dtype == "int8" else None
    header = CacheHeader((images, views, 3, 5, 5), dtype, labels, paths, CLASSES, identity, scales=scales)
    with CacheWriter(folder / f"{split}.h5", header) as writer:
        for rows in writer.missing:
            digests = file_digests(f"{image}{paths[row]}" for row in rows)
            writer.write(rows, maps[rows.start : rows.stop].astype(np.float32), digests)
        writer.publish()
    return folder


def write_cache(folder: Path, **changed: Any) -> Path:
    write_split(folder, "train", 240, **changed)
    return write_split(folder, "test", 150, **changed)


def head(cache: Path, out: Path, **settings: Any) -> Path:
    small = {"hidden": (8,), "epochs": 4, "batch": 32, "device": "cpu", "val_fraction": 0.2}
    return train(TrainConfig(cache=str(cache), out=str(out), **{**small, **settings}))


def two_heads(folder: Path) -> Path:
    """A cache and two heads on it: ten, and linear."""
    cache = write_cache(folder / "cache")
    head(cache, folder / "ten")
    head(cache, folder / "linear", head="linear")
    return folder


def settings(*runs: Path, **changed: Any) -> EvaluateConfig:
    """Of several runs a comparison with few resamples."""
    several = {"resamples": 500} if len(runs) > 1 else {}
    return EvaluateConfig(run=tuple(map(str, runs)), **{"device": "cpu", **several, **changed})


def copy_of(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def predictions(run: Path) -> Predictions:
    """What an evaluation kept in RUN/eval/predictions.npz, read without pickles."""
    with np.load(run / "eval/predictions.npz", allow_pickle=False) as file:
        paths = Paths(bytes(file["paths"]).decode().split("\0")[:-1])
        contents = np.ascontiguousarray(file["image_digests"]).view("V16")[:, 0]
        return Predictions(file["logits"], file["labels"], paths, file["classes"], contents)


def reference(
    run: Path, test: Path, classes: tuple[str, ...] = CLASSES
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(logits, labels, paths) with the maps as h5py reads them, all at once."""
    with h5py.File(test) as file:
        features = file["features"]
        assert isinstance(features, h5py.Dataset)
        maps = torch.from_numpy(features[:].astype(np.float32))
    cache = FeatureCache(test)
    names = [cache.classes[label] for label in cache.labels]
    rows = [i for i, name in enumerate(names) if name in classes]
    logits = load_head(run).logits(maps[rows]).numpy()
    return logits, np.array([classes.index(names[i]) for i in rows]), [cache.paths[i] for i in rows]
