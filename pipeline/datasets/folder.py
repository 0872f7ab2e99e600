"""A folder of image files with a folder per class.

    PATH/train/CLASS/...   PATH/test/CLASS/...       (or val, valid, validation: the first that is there)
    PATH/CLASS/...         or PATH/train/CLASS/...   (no test split: a share of each class, drawn by seed)

Classes are sorted by name and images by path, in code-point order. Folders inside a class belong to it, links
are followed, names that begin with a dot are passed over, and a file's name says whether it is an image.
"""

import os

from pipeline.datasets.base import ImageSplit, SplitName, draw_test
from pipeline.datasets.files import FileReader
from pipeline.datasets.scan import Found, scan, subfolders
from pipeline.errors import DataError

TEST_NAMES = ("test", "val", "valid", "validation")
SPLIT_WORDS = {"train", "training", "testing", *TEST_NAMES}
"""Folders of which all have such names, in any case, are no classes."""


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """Both splits; `test_fraction` and `seed` count where PATH has one folder of classes.

    Raises:
        ConfigError: there is no path.
        DataError: a folder is missing, unreadable, empty, has one class, or the splits' classes differ.
    """
    base = os.path.join(os.path.expanduser(path), "")
    train_folder, test_folder = _layout(base)
    train = scan(base, train_folder)
    ignored = _said(train_folder, train)
    if test_folder is None:
        train_rows, test_rows = draw_test(train.labels, test_fraction, seed)
        train, test, test_ignored = train.take(train_rows), train.take(test_rows), ()
    else:
        test = scan(base, test_folder)
        _check_same_classes(base, train_folder, train.classes, test_folder, test.classes)
        test_ignored = _said(test_folder, test)
        if beside := [name for name in subfolders(base) if name not in (train_folder, test_folder)]:
            ignored = (f"beside {train_folder} and {test_folder}: {', '.join(beside)}", *ignored)
    return {
        "train": _split(base, "train", train, ignored),
        "test": _split(base, "test", test, test_ignored),
    }


def _said(folder: str, found: Found) -> tuple[str, ...]:
    """What a scan passed over, in one line or none."""
    return (f"{folder or 'classes'}: {', '.join(found.ignored)}",) if found.ignored else ()


def _layout(base: str) -> tuple[str, str | None]:
    """The folders of classes below `base` for training and for testing; None when there is only one.

    A folder called train or test is a split if it holds folders, and else a class like any other.
    """
    folders = subfolders(base)
    splits = [name for name in ("train", *TEST_NAMES) if name in folders and subfolders(base + name)]
    tests = [name for name in splits if name != "train"]
    if not splits:
        _refuse_split_names(base, folders)
        return "", None
    if "train" in splits and tests:
        return "train", tests[0]
    if folders == ["train"]:
        return "train", None
    others = ", ".join(f"{name}/" for name in folders if name not in splits) or "nothing else"
    raise DataError(
        f"{base}: expected class folders in train/ and in test/ or val/, found them in {splits[0]}/ "
        f"beside {others}; add the missing split, or name a folder whose folders are the classes"
    )


def _refuse_split_names(base: str, folders: list[str]) -> None:
    """Raises: DataError where images lie right in train/ and test/, or these are spelt in another way."""
    if folders and {name.lower() for name in folders} <= SPLIT_WORDS:
        raise DataError(
            f"{base}: expected class folders in train/ and in test/ or val/, found {' and '.join(folders)} "
            "in another spelling or without class folders; rename them, or sort the images by class"
        )


def _check_same_classes(
    base: str, train_folder: str, train: tuple[str, ...], test_folder: str, test: tuple[str, ...]
) -> None:
    for folder, extra in ((train_folder, set(train) - set(test)), (test_folder, set(test) - set(train))):
        if extra:
            names = sorted(extra)
            listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            raise DataError(
                f"{base}: expected the same classes in {train_folder}/ and {test_folder}/, "
                f"found only in {folder}/: {listed}"
            )


def _split(base: str, name: SplitName, found: Found, ignored: tuple[str, ...]) -> ImageSplit:
    return ImageSplit(
        dataset="folder",
        split=name,
        classes=found.classes,
        paths=found.paths,
        sizes=found.sizes,
        labels=found.labels,
        images=FileReader(base, found.paths),
        ignored=ignored,
    )
