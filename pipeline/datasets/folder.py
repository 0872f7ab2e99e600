"""A folder of image files with a folder per class.

    PATH/train/CLASS/...   PATH/test/CLASS/...       (or val, valid, validation: the first that is there)
    PATH/CLASS/...         or PATH/train/CLASS/...   (no test split: a share of each class, drawn by seed)

Classes are sorted by name and images by path, in code-point order. Folders inside a class belong to it, links
are followed, names that begin with a dot are passed over, and a file's suffix says whether it is an image.
"""

import dataclasses
import os

from pipeline.datasets.base import ImageSplit
from pipeline.datasets.holdout import draw_test
from pipeline.datasets.scan import scan, subfolders
from pipeline.errors import DataError

TEST_NAMES = ("test", "val", "valid", "validation")
SPLIT_WORDS = {"train", "training", "testing", *TEST_NAMES}
"""Folders are no classes when all of them have such names, in upper or lower case."""


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """Both splits.

    Raises: DataError when a folder is missing, unreadable or empty, or the splits' classes differ.
    """
    base = os.path.join(os.path.expanduser(path), "")
    train_folder, test_folder = _layout(base)
    train = scan(base, train_folder, "train")
    if test_folder is None:
        train_rows, test_rows = draw_test(train.labels, test_fraction, seed)
        test = dataclasses.replace(train.take(test_rows), split="test", ignored=())
        return {"train": train.take(train_rows), "test": test}
    test = scan(base, test_folder, "test")
    folders = train_folder, test_folder
    for folder, here, there in zip(folders, (train, test), (test, train), strict=True):
        if extra := sorted(set(here.classes) - set(there.classes)):
            listed = ", ".join(extra[:5]) + (f" and {len(extra) - 5} more" if len(extra) > 5 else "")
            raise DataError(
                f"{base}: expected the same classes in {train_folder}/ and {test_folder}/, "
                f"found only in {folder}/: {listed}"
            )
    if beside := [name for name in subfolders(base) if name not in folders]:
        said = f"beside {train_folder} and {test_folder}: {', '.join(beside)}"
        train = dataclasses.replace(train, ignored=(said, *train.ignored))
    return {"train": train, "test": test}


def _layout(base: str) -> tuple[str, str | None]:
    """The folders of classes below `base` for training and for testing; None when there is only one.

    A folder called train or test is a split if it holds folders, and else a class like any other.
    """
    folders = subfolders(base)
    splits = [name for name in ("train", *TEST_NAMES) if name in folders and subfolders(base + name)]
    if len(splits) > 1 and splits[0] == "train":
        return "train", splits[1]
    if folders == splits == ["train"]:
        return "train", None
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
    return "", None
