"""How a picture has to be turned to stand upright, by its EXIF or XMP."""

import contextlib
import re

import numpy as np
from PIL import Image
from PIL.Image import Transpose

from pipeline.images.directory import Directory

ORIENTATION = 274
XMP_ORIENTATION = re.compile(rb"""tiff:Orientation(?:=["']|>)([0-9])(?![0-9])""")
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


def orientation(exif: bytes, xmp: bytes) -> int:
    """The orientation 1..8 that EXIF asks for, or XMP where EXIF doesn't say; 1 where it can't be read."""
    if not exif and not xmp:
        return 1
    with contextlib.suppress(ValueError):
        tags = Directory(exif.removeprefix(b"Exif\0\0"))
        if ORIENTATION in tags:
            return asked_by(tags)
    found = XMP_ORIENTATION.search(xmp)
    return int(found[1]) if found and int(found[1]) in range(1, 9) else 1


def asked_by(tags: Directory) -> int:
    """The orientation 1..8 that a directory's tag asks for; 1 where it has none that can be read."""
    with contextlib.suppress(ValueError):
        asked = tags.numbers(ORIENTATION)
        return asked[0] if len(asked) == 1 and asked[0] in range(1, 9) else 1
    return 1


def upright(pixels_HWC: np.ndarray, orientation: int) -> np.ndarray:
    """Turn and mirror pixels of EXIF's orientation 1..8. Source: JEITA CP-3451, "Orientation"."""
    if orientation == 1:
        return pixels_HWC
    return np.asarray(Image.fromarray(pixels_HWC).transpose(TURNS[orientation]))
