"""Runs on maps of a tiny trunk, to be exported."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.config import ExtractConfig, TrainConfig
from pipeline.extraction.stage import extract
from pipeline.images.transform import Transform
from pipeline.runs.folder import LoadedHead
from pipeline.training.stage import train
from pipeline.trunks.base import Trunk
from pipeline.trunks.weights import weights_digest

PX = 12
CLASSES = ("ant", "bee", "cow")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def tiny(weights: Path | None = None) -> Trunk:
    """12×12 pixels → maps of 8×5×5."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
    transform = Transform(image_px=PX, mean=MEAN, std=STD)
    return Trunk("tiny", 1, module.eval(), transform, weights_digest(module))


def make_cache(folder: Path, *, several: bool = False, dtype: str = "float32", views: str = "mirror") -> Path:
    """A cache of noise in three classes, one of which or any of which an image has."""
    rng = np.random.default_rng(0)
    lines = ["image,label"]
    for i in range(48):
        name = f"images/{CLASSES[i % 3]}/{i:02}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (PX, PX, 3), np.uint8)).save(folder / name)
        lines.append(f"{name},{('ant|bee', 'bee', 'cow|ant')[i % 3]}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    settings = {"dataset": f"folder:{folder / 'images'}"}
    if several:
        settings = {"dataset": f"csv:{folder / 'labels.csv'}", "label_separator": "|"}
    config = {**settings, "trunk": "tiny", "views": views, "dtype": dtype, "cache": str(folder / "cache")}
    return extract(ExtractConfig(**config, device="cpu", decoders=1))  # pyright: ignore[reportArgumentType]


def make_run(cache: Path, out: Path, **settings: Any) -> Path:
    """A head that was trained for a moment."""
    short = {"epochs": 2, "device": "cpu", "hidden": (6,)}
    return train(TrainConfig(cache=str(cache), out=str(out), **{**short, **settings}))


def some_images(count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(count).integers(0, 256, (count, 3, PX, PX), np.uint8))


def expected_logits(loaded: LoadedHead, images: Tensor, stored: torch.dtype) -> Tensor:
    """The reference: every image by itself, the trunk as written, the head as it is trained and scored."""
    found = []
    for image in images:
        views = torch.stack([image, image.flip(2)]).double() / 255
        mean, std = (torch.tensor(value, dtype=torch.float64).view(3, 1, 1) for value in (MEAN, STD))
        with torch.no_grad():
            maps = tiny().module(((views - mean) / std).float())
        found.append(loaded.logits(maps.to(stored).float()[None]))
    return torch.cat(found)
