"""MS COCO (Lin et al., 2014) from its own files: train to train on, val to test on, 80 classes by id.

    PATH/train2014/*.jpg   PATH/annotations/instances_train2014.json
    PATH/val2014/*.jpg     PATH/annotations/instances_val2014.json

or the same with 2017; 2014 wins where both are there. A class is present in an image when there is an
annotation of it, crowds ("iscrowd") included; boxes are those of single objects, and there are none at all if
one of them has none: labels don't need them. Images without annotations are kept, without a label. Any set in
this format can be read, of any classes, also of some without images.

The files are read here: torchvision's reader needs another package, and keeps the outlines of all objects.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import Paths
from pipeline.datasets.base import Boxes, ImageSplit, SplitName
from pipeline.datasets.files import reader_of, written_path
from pipeline.datasets.litter import litter_in
from pipeline.datasets.places import is_there, open_text, place
from pipeline.errors import DataError
from pipeline.wording import short, shown, some

YEARS = ("2014", "2017")
SETS: dict[SplitName, str] = {"train": "train", "test": "val"}
_ODD = KeyError, TypeError, ValueError
"""What Python raises where an entry isn't in COCO's format."""


class Instances(NamedTuple):
    """The contents of one annotation file; images are sorted by name."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    """(N,) file names."""
    labels: np.ndarray
    """(N, K) int8, 0 and 1."""
    boxes: list[Boxes] | None
    """None where some are missing."""
    unused: list[str]
    """What isn't used, in words."""


class Image(NamedTuple):
    """An entry of "images". Labels need no size of it, and get along with none."""

    name: str
    number: Any
    width: float | None
    height: float | None


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """Both splits. Raises: DataError on a missing or damaged file, or when the splits' classes differ."""
    base = os.path.join(place(path), "")
    year = _year(base)
    splits = {name: _split(base, name, f"{part}{year}") for name, part in SETS.items()}
    train, test = (splits[name].classes for name in SETS)
    if train != test:
        odd = [name for name in (*train, *test) if name not in train or name not in test]
        found = f"only in one of them: {some(map(shown, odd))}" if odd else "other ids for the same names"
        raise DataError(
            f"{base}annotations: expected the same categories in the files of train{year} and val{year}, "
            f"found {found}; categories without images may stay"
        )
    return splits


def _year(base: str) -> str:
    for year in YEARS:
        if all(is_there(_annotations(base, f"{part}{year}")) for part in SETS.values()):
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
    found = read_instances(listed, f"{base}{part}/")
    paths = Paths(f"{part}/{image}" for image in found.names)
    sizes, images = reader_of(base, paths, lambda _: listed)
    return ImageSplit(
        dataset="coco",
        split=name,
        classes=found.classes,
        paths=paths,
        sizes=sizes,
        labels=found.labels,
        images=images,
        boxes=found.boxes,
        ignored=[f"{listed}: {unused}" for unused in found.unused],
    )


def read_instances(path: str, folder: str) -> Instances:
    """The contents of an annotation file of the images in `folder`, which ends with a slash.

    Raises: DataError naming the file when it can't be read, is damaged or of another kind.
    """
    try:
        with open_text(path, "utf-8-sig") as file:
            return _instances(json.load(file, object_hook=_without_outline), folder)
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    except (*_ODD, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{path}: expected annotations of objects: {_said(error)}") from error


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Outlines are most of the file, and would take most of the memory."""
    entry.pop("segmentation", None)
    return entry


def _instances(data: dict[str, Any], folder: str) -> Instances:
    """Raises: errors of Python's on what isn't in COCO's format."""
    categories = sorted(map(_category, data["categories"]))
    classes = tuple(name for _, name in categories)
    column = {number: i for i, (number, _) in enumerate(categories)}
    if not len(set(classes)) == len(column) == len(categories) > 0:
        raise ValueError("found no category, or two of one id or name")
    listed = sorted((_image(entry, folder) for entry in data["images"]), key=lambda image: image.name)
    images = [image for image in listed if not litter_in(image.name)]
    names = tuple(image.name for image in images)
    if not len(set(names)) == len({image.number for image in images}) == len(images) > 0:
        raise ValueError("found no image, or two of one id or name")
    unused = Counter(litter for image in listed if (litter := litter_in(image.name)))
    labels, boxes, without = _objects(data["annotations"], images, listed, column)
    said = [f"{count:,} images in {shown(name)}" for name, count in unused.most_common(5)]
    if without:
        said.append(f"boxes: {without:,} annotations have none, or their images no width and height")
    return Instances(classes, names, labels, None if without else boxes, said)


def _category(entry: dict[str, Any]) -> tuple[int, str]:
    """Id and name. Raises: ValueError, which names the entry, AttributeError."""
    try:
        return int(entry["id"]), str(entry["name"])
    except _ODD as error:
        raise ValueError(f"category {entry.get('id')!r}: {_said(error)}") from error


def _image(entry: dict[str, Any], folder: str) -> Image:
    """Raises: ValueError, which names the entry, AttributeError."""
    try:
        name, size = written_path(folder, str(entry["file_name"])), (entry.get("width"), entry.get("height"))
        return Image(name, entry["id"], *(side and float(side) for side in size))
    except _ODD as error:
        raise ValueError(f"image {entry.get('id')!r}: {_said(error)}") from error


def _objects(
    annotations: Sequence[dict[str, Any]],
    images: Sequence[Image],
    listed: Sequence[Image],
    column: dict[int, int],
) -> tuple[NDArray[np.int8], list[Boxes], int]:
    """Labels and boxes of the images, and how many objects have no box. Those of other listed images are
    passed over. Raises: ValueError, which names the entry, AttributeError.
    """
    row = {image.number: i for i, image in enumerate(images)}
    left_out = {image.number for image in listed} - set(row)
    labels = np.zeros((len(images), len(column)), np.int8)
    boxes: list[list[tuple[float, ...]]] = [[] for _ in images]
    without, i, entry = 0, 0, dict[str, Any]()
    try:
        for entry in annotations:
            i += 1
            if (number := entry["image_id"]) in left_out:
                continue
            if number not in row or int(entry["category_id"]) not in column:
                name = "category_id" if number in row else "image_id"
                raise ValueError(f"found the unknown {name} {entry[name]!r}")
            class_ = column[int(entry["category_id"])]
            labels[row[number], class_] = 1
            if entry.get("iscrowd"):
                continue
            box = _box(entry.get("bbox"), images[row[number]])
            if box is None:
                without += 1
            elif box[0] < box[2] and box[1] < box[3]:
                boxes[row[number]].append((class_, *box))
    except _ODD as error:
        raise ValueError(f"annotation {i}, id {entry.get('id')!r}: {_said(error)}") from error
    return labels, [np.array(of_image, np.float32).reshape(-1, 5) for of_image in boxes], without


def _box(bbox: Any, image: Image) -> tuple[float, float, float, float] | None:
    """COCO's (x, y, width, height) → x0, y0, x1, y1 inside the image: some reach beyond it by rounding.

    None where there is no box, or the image has no size. Raises: ValueError, TypeError.
    """
    if not bbox or not image.width or not image.height:
        return None
    if len(bbox) != 4:
        raise ValueError(f"expected a bbox of four numbers, found {short(bbox)}")
    x, y, across, down = map(float, bbox)
    return max(x, 0.0), max(y, 0.0), min(x + across, image.width), min(y + down, image.height)


def _said(error: Exception) -> str:
    return f"found none of {error}" if isinstance(error, KeyError) else str(error)
