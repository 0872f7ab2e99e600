"""A small folder of images to pretrain on, and short runs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config import PretrainConfig
from pipeline.pretraining.loop import PretrainingLoop


def dark_and_light(root: Path) -> Path:
    """Two classes that differ in brightness, 24 training and 8 test images each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for low, name in ((0, "dark"), (128, "light")):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(low, low + 128, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def settings(images: Path, out: Path, **other: object) -> PretrainConfig:
    small = {"epochs": 3, "batch": 16, "lr": 0.02, "widths": (16, 32, 32), "decoders": 1}
    fields = {**small, "precision": "float32", **other}
    return PretrainConfig(dataset=f"folder:{images}", out=str(out), **fields)  # type: ignore[arg-type]


def die_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process die once the checkpoint of so many epochs is written."""
    save = PretrainingLoop.save

    def save_and_die(self: PretrainingLoop, path: Path, epoch: int) -> None:
        save(self, path, epoch)
        if epoch == epochs:
            raise KeyboardInterrupt

    monkeypatch.setattr(PretrainingLoop, "save", save_and_die)
