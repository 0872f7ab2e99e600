"""A dataset of a few blocks, a trunk that takes no time, and extractions of them."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cache import FeatureCache
from pipeline.config import ExtractConfig

TRUNK = """
import torch
from torch import nn


def trunk():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
"""


def make_images(folder: Path, train: int = 2500, test: int = 40, seed: int = 0) -> Path:
    """Two classes of 8×8 pixels, and `trunk.py` beside them."""
    rng = np.random.default_rng(seed)
    for split, count in (("train", train), ("test", test)):
        for at in range(count):
            image = folder / "photos" / split / "ab"[at % 2] / f"{at:05}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(image)
    (folder / "trunk.py").write_text(TRUNK)
    return folder


def config(images: Path, cache: Path, **other: Any) -> ExtractConfig:
    fields = {"decoders": 1, "image_px": 8, "device": "cpu", "batch": 256, **other}
    trunk, dataset = f"{images / 'trunk.py'}:trunk", f"folder:{images / 'photos'}"
    return ExtractConfig(dataset=dataset, trunk=trunk, cache=str(cache), **fields)


def flags(settings: ExtractConfig) -> list[str]:
    """What stands on the command line for these settings."""
    given = {name: value for name, value in settings.as_json().items() if value not in (None, [], False)}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def contents(path: Path) -> dict[str, Any]:
    """All that a reader gets of a cache, of one file or several."""
    cache = FeatureCache(path)
    cache.verify()
    return {
        "key": cache.key,
        "images": cache.images_digest,
        "classes": cache.classes,
        "notes": cache.notes,
        "paths": hashlib.sha256("\0".join(cache.paths).encode()).hexdigest(),
        "labels": cache.labels.tobytes(),
        "features": hashlib.sha256(np.ascontiguousarray(cache.features).data).hexdigest(),
    }


def stamps(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Bytes and time of the last change of every file but the stamps."""
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.iterdir())
        if not path.name.endswith(".stamp")
    }
