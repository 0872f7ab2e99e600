"""The part of a decoded image that its resizing reads, for a device that resizes.

Resizing a photo takes twice as long as decoding it: a GPU does it on the side.

Legend: H×W pixels of the image, S = image_px.
"""

from typing import NamedTuple

import numpy as np

from pipeline.images.taps import RADIUS, Taps, taps
from pipeline.images.transform import Transform

LARGEST = 7
"""A part with more pixels than so many inputs is resized where it is decoded, for want of memory: 640×480 are
not yet too many for 224×224."""


class Cut(NamedTuple):
    """An image to be resized, or one that is the trunk's input already."""

    pixels: np.ndarray
    """(h, w, 3) uint8, the part of the image; or the input (3, S, S)."""
    size: tuple[int, int] | None
    """(H, W) of the whole image; None for the input."""


def can_be_cut(transform: Transform) -> bool:
    """Whether images may be resized elsewhere: it is known which pixels they are made of."""
    return transform.resize != "exact" and transform.interpolation in RADIUS


def cut(image_HWC: np.ndarray, transform: Transform) -> Cut:
    """What has to be known of an image (H, W, 3) uint8 to make the trunk's input of it."""
    height, width, _ = image_HWC.shape
    rows, columns = taps_of((height, width), transform)
    area, side = (rows.stop - rows.start) * (columns.stop - columns.start), transform.image_px
    if not transform.resizes(height, width) or area > LARGEST * side**2:
        return Cut(transform.apply(image_HWC), None)
    part = image_HWC[rows.start : rows.stop, columns.start : columns.stop]
    return Cut(np.ascontiguousarray(part), (height, width))


def taps_of(size: tuple[int, int], transform: Transform) -> tuple[Taps, Taps]:
    """Of which rows and columns of an image of `size` (H, W) the input is made."""
    height, width = size
    left, top, right, bottom = transform.kept(height, width)
    side, interpolation = transform.image_px, transform.interpolation
    return taps(height, top, bottom, side, interpolation), taps(width, left, right, side, interpolation)
