"""Folders of small images, made and opened."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)


def write(path: Path, value: int = 0) -> Path:
    """An image that differs by `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS ^ np.uint8(value)).save(path, "PNG")
    return path


def fill(root: Path, names: Iterable[str], count: int = 3) -> Path:
    for name in names:
        for i in range(count):
            write(root / name / f"{i:02}.png", i)
    return root


def open_folder(root: Path | str, **options: float) -> dict[str, ImageSplit]:
    return open_dataset(f"folder:{root}", **options)  # type: ignore[arg-type]


def refusal(root: Path | str, **options: float) -> str:
    with pytest.raises(UserError) as caught:
        open_folder(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
