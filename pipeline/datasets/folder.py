"""A folder of image files with a folder per class.

    PATH/train/CLASS/...   PATH/test/CLASS/...   PATH/val/CLASS/...   (or valid, validation: the first there)
    PATH/train/CLASS/...   PATH/val/CLASS/...       (no test split: val is it)
    PATH/CLASS/...         or PATH/train/CLASS/...   (neither: a share of each class, drawn by seed)

val beside test is the validation part, the last images of the training split. Classes are sorted by name and
images by path, in code-point order. Folders inside a class belong to it, links are followed, hidden files and
litter are left out, and a file's suffix says whether it is an image.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np

from cache import Paths
from pipeline.datasets.base import ImageSplit
from pipeline.datasets.files import FileReader
from pipeline.datasets.holdout import draw_test
from pipeline.datasets.places import place
from pipeline.datasets.scan import KINDS, scan, subfolders
from pipeline.errors import DataError
from pipeline.wording import shown, some

TEST_NAMES = ("test", "val", "valid", "validation")
SPLIT_WORDS = {"train", "training", "testing", *TEST_NAMES}
"""Folders are no classes when all of them have such names, in upper or lower case."""


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """Both splits.

    Raises: DataError when a folder is missing, unreadable or empty, or the splits' classes differ.
    """
    base = os.path.join(place(path), "")
    train_folder, test_folder, val_folder = _layout(base)
    train = scan(base, train_folder, "train")
    beside = _beside(base, [name for name in (train_folder, test_folder, val_folder) if name])
    train = dataclasses.replace(train, ignored=(*beside, *train.ignored))
    if test_folder is None:
        train_rows, test_rows = draw_test(train.labels, test_fraction, seed)
        test = dataclasses.replace(train.take(test_rows), split="test", ignored=())
        return {"train": train.take(train_rows), "test": test}
    test = scan(base, test_folder, "test")
    folders = train_folder, test_folder
    _check_classes(base, folders, train, test)
    _check_classes(base, (test_folder, train_folder), test, train)
    if val_folder:
        val = scan(base, val_folder, "train")
        _check_classes(base, (val_folder, train_folder), val, train)
        train = _joined(base, train, val)
    elif test_folder != "test":
        train = dataclasses.replace(
            train, remarks=[f"{base}{test_folder}/ is the test split, as there is no test/"]
        )
    return {"train": train, "test": test}


def _beside(base: str, folders: Sequence[str]) -> list[str]:
    """A line about what else is in the folder of the splits; none where the classes are right in it."""
    if not folders:
        return []
    left_out = Counter[str]()
    found = [shown(name) for name in subfolders(base, left_out) if name not in folders]
    found += [f"{count} {name}" for name, count in sorted(left_out.items())]
    return [f"beside {' and '.join(folders)}: {some(found, KINDS)}"] if found else []


def _check_classes(base: str, folders: tuple[str, str], here: ImageSplit, there: ImageSplit) -> None:
    """Raises: DataError when the first of two folders has classes that the second one lacks."""
    if extra := sorted(set(here.classes) - set(there.classes)):
        first, second = sorted(folders, key=("train", *TEST_NAMES).index)
        raise DataError(
            f"{base}: expected the same classes in {first}/ and {second}/, "
            f"found only in {folders[0]}/: {some(map(shown, extra))}"
        )


def _joined(base: str, train: ImageSplit, val: ImageSplit) -> ImageSplit:
    """The training images, and validation images of some of their classes behind them."""
    paths = Paths(chain(train.paths, val.paths))
    statuses = [found for split in (train, val) if (found := split.images.statuses()) is not None]
    place = np.array([train.classes.index(name) for name in val.classes])
    return dataclasses.replace(
        train,
        paths=paths,
        sizes=np.concatenate([train.sizes, val.sizes]),
        labels=np.concatenate([train.labels, place[val.labels]]),
        images=FileReader(base, paths, np.concatenate(statuses)),
        ignored=(*train.ignored, *val.ignored),
        val_rows=len(val),
    )


def _layout(base: str) -> tuple[str, str | None, str | None]:
    """The folders of classes below `base` for training, testing and validation; None where there is none.

    A folder called train or test is a split if it holds folders, and else a class like any other.
    """
    folders = subfolders(base)
    splits = [name for name in ("train", *TEST_NAMES) if name in folders and subfolders(base + name)]
    if len(splits) > 1 and splits[0] == "train":
        return "train", splits[1], splits[2] if splits[1] == "test" and len(splits) > 2 else None
    if folders == splits == ["train"]:
        return "train", None, None
    if splits:
        others = ", ".join(f"{name}/" for name in folders if name not in splits) or "nothing else"
        raise DataError(
            f"{base}: expected class folders in train/ and in test/ or val/, found them in {splits[0]}/ "
            f"beside {others}; add the missing split, or name a folder whose folders are the classes"
        )
    if folders and {name.lower() for name in folders} <= SPLIT_WORDS:
        raise DataError(
            f"{base}: expected class folders in train/ and in test/ or val/, found {' and '.join(folders)} "
            "in another spelling or without class folders; rename them, or sort the images by class"
        )
    return "", None, None
