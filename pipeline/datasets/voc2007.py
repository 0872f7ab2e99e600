"""PASCAL VOC 2007 (Everingham et al.), classification with boxes: 5,011 trainval and 4,952 test images.

torchvision finds the images of a split, and downloads them with their digests checked; the annotations are
read here. A class is present (1) when an object of it is there that isn't marked difficult, not counted (-1)
when all of its objects are, and absent (0) otherwise. Difficult objects have no box; where another one has
none, there are no boxes at all: labels don't need them.
"""

import math
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from cache import Paths
from cache.remote import is_url, side_by_side
from pipeline.datasets.base import Boxes, ImageSplit, SplitName
from pipeline.datasets.cifar10 import ROOT
from pipeline.datasets.files import reader_of
from pipeline.datasets.litter import is_litter
from pipeline.datasets.places import place, read_bytes
from pipeline.errors import DataError
from pipeline.wording import shown, some

_NAMES = """aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor"""
CLASSES = tuple(_NAMES.split())
Corners = tuple[float, float, float, float]
INSIDE = "VOCdevkit/VOC2007/"
SETS: dict[SplitName, str] = {"train": "trainval", "test": "test"}
SOURCE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """Both splits of the folder that holds VOCdevkit/VOC2007; without a path they are downloaded.

    Raises: DataError when files are missing or damaged, or the download failed.
    """
    base = os.path.join(place(path) if path else ROOT, "")
    return {name: _split(base, name, may_download=not path) for name in SETS}


def _split(base: str, name: SplitName, *, may_download: bool) -> ImageSplit:
    listed = f"{base}{INSIDE}ImageSets/Main/{SETS[name]}.txt"
    named = _far_stems(listed) if is_url(base) else _stems(Path(base), name, may_download)
    stems = [stem for stem in named if not is_litter(stem)]
    if not stems:
        raise DataError(f"{listed}: expected the name of an image per line, found none")
    paths = Paths(f"{INSIDE}JPEGImages/{stem}.jpg" for stem in stems)
    sizes, images = reader_of(base, paths, lambda _: listed)
    advice = "; unpack it again" if may_download else ""
    notes = [f"{base}{INSIDE}Annotations/{stem}.xml" for stem in stems]
    each = side_by_side if is_url(base) else map
    read = list(each(lambda note: read_annotation(note, advice), notes))
    labels, boxes = zip(*read, strict=True)
    without = sum(boxes_of is None for boxes_of in boxes)
    unused = [f"boxes: {without:,} images have objects without one"] if without else []
    if litter := [name for name in named if is_litter(name)]:
        unused.append(f"{listed}: {some(map(shown, litter))}")
    return ImageSplit(
        dataset="voc2007",
        split=name,
        classes=CLASSES,
        paths=paths,
        sizes=sizes,
        labels=np.stack(labels),
        images=images,
        boxes=None if without else boxes,
        ignored=unused,
    )


def _stems(root: Path, name: SplitName, may_download: bool) -> list[str]:
    """Names of a split's images, sorted, without their suffix. Raises: DataError."""
    from torchvision.datasets import VOCDetection

    listed = root / INSIDE / "ImageSets/Main" / f"{SETS[name]}.txt"
    download = may_download and not listed.is_file()
    try:
        data = VOCDetection(root, "2007", SETS[name], download=download)
    except (OSError, RuntimeError, EOFError, UnicodeDecodeError) as error:
        tried = " and the download failed" if download else ""
        raise DataError(
            f"voc2007: {listed} can't be read{tried} ({error}); unpack VOCtrainval_06-Nov-2007.tar and "
            f"VOCtest_06-Nov-2007.tar from {SOURCE} in {root}, or name the folder: --dataset voc2007:PATH"
        ) from error
    names = {os.path.basename(image).removesuffix(".jpg") for image in data.images}
    return sorted(names - {""})  # a line may be empty


def _far_stems(listed: str) -> list[str]:
    """The same of a list in a store, which torchvision doesn't read. Raises: DataError, StoreError."""
    try:
        lines = read_bytes(listed).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{listed}: can't be read: {reason}; give the URL of the folder with {INSIDE}"
        ) from error
    return sorted({line.strip() for line in lines} - {""})


def read_annotation(path: str, advice: str = "") -> tuple[np.ndarray, Boxes | None]:
    """The labels (20,) int8 of one image, and its boxes unless one is missing.

    Raises: DataError naming the file when it is missing, no XML, or has an object that makes no sense.
    """
    try:
        root = ET.fromstring(read_bytes(path))
        size = _side(root, "width"), _side(root, "height")
        objects = [_object(node, *size) for node in root.iter("object")]
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    except (ET.ParseError, LookupError, ValueError) as error:  # Lookup: an encoding that nobody knows
        raise DataError(f"{path}: expected the annotation of an image: {error}{advice}") from error
    label = np.zeros(len(CLASSES), np.int8)
    label[[class_ for class_, _, is_difficult in objects if is_difficult]] = -1
    label[[class_ for class_, _, is_difficult in objects if not is_difficult]] = 1
    boxes = [(class_, box) for class_, box, is_difficult in objects if not is_difficult]
    if None in (box for _, box in boxes):
        return label, None
    seen = [(class_, *box) for class_, box in boxes if box and box[0] < box[2] and box[1] < box[3]]
    return label, np.array(seen, np.float32).reshape(-1, 5)


def _side(root: ET.Element, name: str) -> float:
    """The width or height that an annotation gives the image; without bound where it gives none."""
    try:
        return float(root.findtext(f"size/{name}", "")) or math.inf
    except ValueError:
        return math.inf


def _object(node: ET.Element, width: float, height: float) -> tuple[int, Corners | None, bool]:
    """(class, box, difficult) of an object in an image of this size. Raises: ValueError.

    The file counts pixels from 1 and the last one belongs to the box: xmin = 1 is x0 = 0, and a box up to
    column xmax ends at x1 = xmax. Some programs count from 0, or go beyond the image by rounding.
    """
    name = node.findtext("name", "").strip()
    if name not in CLASSES:
        raise ValueError(f"expected one of the 20 classes, found an object {name!r}")
    is_difficult = node.findtext("difficult", "0").strip() == "1"
    corners = [node.findtext(f"bndbox/{corner}", "") for corner in ("xmin", "ymin", "xmax", "ymax")]
    if not any(corners):
        return CLASSES.index(name), None, is_difficult
    try:
        x0, y0, x1, y1 = map(float, corners)
    except ValueError:
        raise ValueError(f"expected a box, found {corners}") from None
    if not (x0 <= x1 and y0 <= y1):
        raise ValueError(f"expected a box with corners in order, found {corners}")
    box = max(x0 - 1, 0.0), max(y0 - 1, 0.0), min(x1, width), min(y1, height)
    return CLASSES.index(name), box, is_difficult
