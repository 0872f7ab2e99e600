"""CIFAR-10 (Krizhevsky, 2009) through torchvision, which downloads it and checks its files' digests."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cache import Paths
from pipeline.datasets.base import ArrayReader, ImageSplit, SplitName
from pipeline.errors import DataError

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

ROOT = Path("artifacts/datasets")


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """50,000 and 10,000 images of 32×32 pixels; paths are train/00000 and test/00000 and on.

    Raises: DataError when it isn't there and the download failed.
    """
    from torchvision.datasets import CIFAR10

    return open_splits(CIFAR10, ROOT)


def open_splits(source: "type[CIFAR10]", root: Path) -> dict[str, ImageSplit]:
    """Both splits of `source` (torchvision's class, which knows the digests) under `root`."""
    try:
        return {"train": _split(source, root, "train"), "test": _split(source, root, "test")}
    except (OSError, RuntimeError, EOFError) as error:
        raise DataError(
            f"cifar10: not in {root} and the download failed ({error}); put {source.filename} from "
            f"{source.url} into {root}, or use --dataset folder:PATH (train/ and test/, a folder per class)"
        ) from error


def _split(source: "type[CIFAR10]", root: Path, name: SplitName) -> ImageSplit:
    data = source(root, train=name == "train", download=True)
    return ImageSplit(
        dataset="cifar10",
        split=name,
        classes=tuple(data.classes),
        paths=Paths(f"{name}/{i:05}" for i in range(len(data.targets))),
        sizes=np.full(len(data.targets), data.data[0].nbytes, np.int64),
        labels=np.asarray(data.targets, np.int64),
        images=ArrayReader(data.data),
    )
