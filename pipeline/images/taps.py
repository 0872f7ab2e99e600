"""How Pillow resizes: the pixels that each pixel of the result is made of, with their weights as integers.

One axis after the other, a pixel is the sum of a few, by weights with 22 bits behind the point, rounded to 8
bits. Integers add up to the same in any order: whoever has the weights gets Pillow's pixels, on any device.

Source: Pillow, src/libImaging/Resample.c. Legend: S pixels of the result's side, T taps of each.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray

POINT_BITS = 22
RADIUS = {"bilinear": 1.0, "bicubic": 2.0}
"""The interpolations that are known here, with the distance from which a pixel has no weight."""
TALL_ROWS_FIRST = int(PIL.__version__.split(".")[0]) >= 13
"""Whether Pillow resizes the height of a tall image before its width: the order decides on the rounding."""


class Taps(NamedTuple):
    """What the S pixels of one axis of a result are made of."""

    start: int
    """The first pixel of the image's axis that counts."""
    stop: int
    """The pixel behind the last one."""
    first: NDArray[np.int64]
    """(S,) The first pixel of each, counted from `start`."""
    weights: NDArray[np.int32]
    """(S, T) of that pixel and those behind it, 0 behind the last one."""


@functools.lru_cache(4096)
def taps(size: int, low: float, high: float, side: int, interpolation: str) -> Taps:
    """The taps by which Pillow makes `side` pixels of those from `low` to `high` on an axis of `size`."""
    begin, end = np.float32(low), np.float32(high)  # as Pillow keeps them
    scale = float(end - begin) / side
    spread = max(scale, 1.0)
    radius = RADIUS[interpolation] * spread
    centres = float(begin) + (np.arange(side) + 0.5) * scale
    first = (centres - radius + 0.5).clip(0).astype(np.int64)
    behind = (centres + radius + 0.5).astype(np.int64).clip(None, size)
    places = first[:, None] + np.arange(math.ceil(radius) * 2 + 1)
    weights = _weights(np.abs((places - centres[:, None] + 0.5) * (1 / spread)), interpolation)
    weights[places >= behind[:, None]] = 0
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]  # in order, as Pillow adds them up
    rounded = (weights * (1 << POINT_BITS) + np.where(weights < 0, -0.5, 0.5)).astype(np.int32)
    start = int(first.min())
    return Taps(start, int(behind.max()), first - start, rounded)


def rows_come_first(height: int, width: int, side: int) -> bool:
    """Whether Pillow resizes the height of a whole image of this size before its width."""
    return TALL_ROWS_FIRST and height > side and height - side > 2 * (width - side)


def _weights(distances: NDArray[np.float64], interpolation: str) -> NDArray[np.float64]:
    """Of pixels at these distances from a centre, in pixels of the result, or of the image if it grows."""
    x = distances
    if interpolation == "bilinear":
        return np.where(x < 1, 1 - x, 0)
    return np.where(
        x < 1, (1.5 * x - 2.5) * x * x + 1, np.where(x < 2, (((x - 5) * x + 8) * x - 4) * -0.5, 0)
    )
