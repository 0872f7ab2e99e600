"""Small sets of images as the `datasets` library holds and writes them."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, disable_progress_bars
from PIL import Image as Picture

from support.folders import PIXELS

disable_progress_bars()


def png(value: int) -> bytes:
    """The image that `write` of support.folders makes."""
    data = io.BytesIO()
    Picture.fromarray(PIXELS ^ np.uint8(value)).save(data, "PNG")
    return data.getvalue()


def labelled(count: int, first: int = 0, names: tuple[str, ...] = ("cat", "dog", "eel")) -> Dataset:
    """Images `first` and on, named 0.png and on, of one class each."""
    images = [{"bytes": png(i), "path": f"{i}.png"} for i in range(first, first + count)]
    features = Features({"image": Image(), "label": ClassLabel(names=list(names))})
    return Dataset.from_dict({"image": images, "label": [i % len(names) for i in range(count)]}, features)


def with_column(count: int, name: str, values: Any, feature: Any) -> Dataset:
    """Images with a column of any type, and no other."""
    images = [{"bytes": png(i), "path": None} for i in range(count)]
    features = Features({"image": Image(), name: feature})
    return Dataset.from_dict({"image": images, name: values}, features)


def tar(path: Path, members: dict[str, bytes]) -> Path:
    """A webdataset file: the members of a sample share what stands before the first dot."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as file:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            file.addfile(entry, io.BytesIO(data))
    return path
