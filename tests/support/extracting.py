"""Extractions of small folders, and what they should give."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.config import ExtractConfig
from pipeline.trunks.alexnet_cifar import load

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


def settings(photos: Path, weights: Path, cache: Path, **other: object) -> ExtractConfig:
    fields = {"decoders": 1, "dtype": "float32", **other}
    return ExtractConfig(dataset=f"folder:{photos}", weights=str(weights), cache=str(cache), **fields)  # type: ignore[arg-type]


def map_of(weights: Path, image: Image.Image) -> Tensor:
    """The reference: one image, no cache, no folding."""
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255)
    normalised = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.inference_mode():
        return load(weights).module(normalised.permute(2, 0, 1)[None])[0]


def files(folder: Path) -> dict[str, bytes]:
    """Caches, finished and unfinished; their stamps hold times, which differ."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if ".stamp" not in path.name}
