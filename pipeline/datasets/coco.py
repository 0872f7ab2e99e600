"""MS COCO (Lin et al., 2014) from its own files: train to train on, val to test on, 80 classes by id.

    PATH/train2014/*.jpg   PATH/annotations/instances_train2014.json
    PATH/val2014/*.jpg     PATH/annotations/instances_val2014.json

or the same with 2017; 2014 wins where both are there. A class is present in an image when there is an
annotation of it, crowds ("iscrowd") included; boxes are those of single objects. Images without annotations
are kept, without a label. Any set in this format can be read, of any classes.

The files are read here: torchvision's reader needs another package, and keeps the outlines of all objects.
"""

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cache import Paths
from pipeline.datasets.base import Boxes, ImageSplit, SplitName
from pipeline.datasets.files import FileReader, file_size
from pipeline.errors import DataError

YEARS = ("2014", "2017")
SETS: dict[SplitName, str] = {"train": "train", "test": "val"}


class Instances(NamedTuple):
    """The contents of one annotation file; images are sorted by name."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    """(N,) file names."""
    labels: np.ndarray
    """(N, K) int8, 0 and 1."""
    boxes: list[Boxes]


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """Both splits. Raises: DataError on a missing or damaged file, or when the splits' classes differ."""
    base = os.path.join(os.path.expanduser(path), "")
    year = _year(base)
    splits = {name: _split(base, name, f"{part}{year}") for name, part in SETS.items()}
    if splits["train"].classes != splits["test"].classes:
        raise DataError(
            f"{base}annotations: expected the same categories in the files of train{year} and val{year}"
        )
    return splits


def _year(base: str) -> str:
    for year in YEARS:
        if all(Path(_annotations(base, f"{part}{year}")).is_file() for part in SETS.values()):
            return year
    raise DataError(
        f"coco: expected {_annotations(base, 'train2014')} and instances_val2014.json (or both of 2017), "
        "found neither pair; unpack train2014.zip, val2014.zip and annotations_trainval2014.zip from "
        f"https://cocodataset.org/#download in {base}"
    )


def _annotations(base: str, part: str) -> str:
    return f"{base}annotations/instances_{part}.json"


def _split(base: str, name: SplitName, part: str) -> ImageSplit:
    listed = _annotations(base, part)
    found = read_instances(listed)
    paths = Paths(f"{part}/{image}" for image in found.names)
    return ImageSplit(
        dataset="coco",
        split=name,
        classes=found.classes,
        paths=paths,
        sizes=np.array([file_size(base + image, listed) for image in paths], np.int64),
        labels=found.labels,
        images=FileReader(base, paths),
        boxes=found.boxes,
    )


def read_instances(path: str) -> Instances:
    """Raises: DataError naming the file when it can't be read, is damaged or of another kind."""
    try:
        with open(path, encoding="utf-8") as file:
            return _instances(json.load(file, object_hook=_without_outline))
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    except KeyError as error:
        raise DataError(
            f"{path}: expected annotations of objects, found none of {error} in an entry"
        ) from error
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: expected annotations of objects: {error}; unpack it again") from error


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Outlines are most of the file, and would take most of the memory."""
    entry.pop("segmentation", None)
    return entry


def _instances(data: dict[str, Any]) -> Instances:
    """Raises: KeyError, TypeError, ValueError, AttributeError on what isn't in COCO's format."""
    categories = sorted((int(entry["id"]), str(entry["name"])) for entry in data["categories"])
    column = {number: i for i, (number, _) in enumerate(categories)}
    images = sorted(data["images"], key=lambda entry: str(entry["file_name"]))
    row = {entry["id"]: i for i, entry in enumerate(images)}
    names = tuple(str(entry["file_name"]) for entry in images)
    if not len(names) == len(set(names)) == len(row) > 0 or not len(column) == len(categories) > 0:
        raise ValueError("found no image or category, or two of one id or name")
    if odd := [name for name in names if name.startswith("/") or ".." in name.split("/")]:
        raise ValueError(f"found an image outside the folder: {odd[0]}")
    labels = np.zeros((len(names), len(column)), np.int8)
    boxes: list[list[tuple[float, ...]]] = [[] for _ in names]
    for entry in data["annotations"]:
        if entry["image_id"] not in row or entry["category_id"] not in column:
            raise ValueError(f"found an annotation of an unknown image or category: {entry['image_id']}")
        at, class_ = row[entry["image_id"]], column[entry["category_id"]]
        labels[at, class_] = 1
        box = _box(entry["bbox"], images[at]["width"], images[at]["height"])
        if not entry.get("iscrowd", 0) and box[0] < box[2] and box[1] < box[3]:
            boxes[at].append((class_, *box))
    arrays = [np.array(of_image, np.float32).reshape(-1, 5) for of_image in boxes]
    return Instances(tuple(name for _, name in categories), names, labels, arrays)


def _box(bbox: list[float], width: float, height: float) -> tuple[float, float, float, float]:
    """COCO's (x, y, width, height) → x0, y0, x1, y1 inside the image: some reach beyond it by rounding."""
    x, y, across, down = map(float, bbox)
    return max(x, 0.0), max(y, 0.0), min(x + across, float(width)), min(y + down, float(height))
