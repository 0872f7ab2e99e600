"""Small sets in the formats of PASCAL VOC 2007 and MS COCO: folders, XML, JSON, JPEGs."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.datasets.voc2007 import CLASSES

VocObject = tuple[str, tuple[float, float, float, float], bool]
"""Name, (xmin, ymin, xmax, ymax) counted from 1, difficult."""


def jpeg(path: Path, width: int = 40, height: int = 30) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def voc_xml(objects: Iterable[VocObject], width: int = 40, height: int = 30) -> str:
    """With the parts of a person, which have names and boxes too."""
    entries = [
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>"
        f"<difficult>{int(difficult)}</difficult>"
        f"<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
        "</object>"
        for name, box, difficult in objects
    ]
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return (
        f"<annotation><folder>VOC2007</folder>{size}<segmented>0</segmented>{''.join(entries)}</annotation>"
    )


def voc(root: Path, sets: Mapping[str, Mapping[str, Iterable[VocObject]]]) -> Path:
    """`sets`: name of a set → stem of an image → its objects."""
    base = root / "VOCdevkit/VOC2007"
    for folder in ("ImageSets/Main", "Annotations"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    for name, images in sets.items():
        (base / f"ImageSets/Main/{name}.txt").write_text("".join(f"{stem}\n" for stem in images))
        for stem, objects in images.items():
            jpeg(base / f"JPEGImages/{stem}.jpg")
            (base / f"Annotations/{stem}.xml").write_text(voc_xml(objects))
    return root


def coco(root: Path, part: str, names: Iterable[str], objects: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Write a split of 40×30 images with ids 100, 101 …; `objects` get an outline; gives the annotations."""
    categories = [{"id": 7, "name": "train"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
    images = [{"id": 100 + i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "iscrowd": 0, "segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], **entry}
        for i, entry in enumerate(objects)
    ]
    data = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    for entry in images:
        jpeg(root / part / str(entry["file_name"]))
    (root / "annotations").mkdir(exist_ok=True)
    (root / f"annotations/instances_{part}.json").write_text(json.dumps(data))
    return data


def whole(root: Path, name: str) -> Path:
    """A set of `name` ("voc2007" or "coco") with every class in both splits, ten images in each."""
    if name == "voc2007":
        objects = [(label, (1, 2, 40, 30), False) for label in CLASSES]
        sets = {part: {f"{part}{i}": objects[i:] for i in range(10)} for part in ("trainval", "test")}
        return voc(root, sets)
    objects = [
        {"image_id": 100 + i, "category_id": (1, 7, 90)[i % 3], "bbox": [1, 2, 3, 4]} for i in range(10)
    ]
    for part in ("train2014", "val2014"):
        coco(root, part, [f"{i}.jpg" for i in range(10)], objects)
    return root
