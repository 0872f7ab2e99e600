"""GIF files: their first frame, on a canvas that shows white where the frame leaves it."""

import numpy as np

from pipeline.images.pillow import KindError, open_image, rgb

HAS_PALETTE = 0x80


def read(data: bytes) -> np.ndarray:
    """A GIF file as (H, W, 3) uint8. Raises: KindError, and what Pillow raises on damaged files."""
    image = open_image(data, "GIF")
    frame = image.tile[0]
    # Where the frame has no palette, its descriptor and a byte more come right before the samples.
    left, top, right, bottom = frame.extents or (0, 0, *image.size)
    sides = (left, top, right - left, bottom - top)
    descriptor = b"," + b"".join(side.to_bytes(2, "little") for side in sides)
    has_none = data[frame.offset - 11 : frame.offset - 2] == descriptor
    if not data[10] & HAS_PALETTE and has_none and not data[frame.offset - 2] & HAS_PALETTE:
        raise KindError("a GIF without a palette")
    image.load()
    pixels = rgb(image)
    if pixels.shape[:2] == (bottom - top, right - left):
        return pixels
    canvas = np.full_like(pixels, 255)
    canvas[top:bottom, left:right] = pixels[top:bottom, left:right]
    return canvas
