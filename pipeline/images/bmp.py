"""BMP files: Pillow reads them, but for few greys in many bits, which it takes for samples of fewer bits."""

import numpy as np

from pipeline.images.pillow import KindError, open_image, rgb
from pipeline.images.samples import as_rgb, unpack

OS2_HEADER = 12
BITS = {"1": 1, "L": 8}
"""Bits of the file's samples where Pillow's are not a palette's indices."""


def read(data: bytes) -> np.ndarray:
    """A BMP file as (H, W, 3) uint8. Raises: KindError, and what Pillow raises on damaged files."""
    image = open_image(data, "BMP")
    bits = int.from_bytes(data[24:26] if data[14] == OS2_HEADER else data[28:30], "little")
    if image.mode not in BITS or bits == BITS[image.mode]:
        image.load()
        return rgb(image)
    if image.info["compression"]:
        raise KindError(f"a run-length coded {bits}-bit BMP of few greys")
    row_bytes = (image.width * bits + 31) // 32 * 4
    packed = np.frombuffer(data, np.uint8, row_bytes * image.height, image.tile[0].offset)
    indices_HW = unpack(packed.reshape(image.height, row_bytes), bits, image.width)
    is_from_below = data[14] == OS2_HEADER or data[25] < 0x80  # a negative height is one from above
    greys_HW = (indices_HW != 0) * np.uint8(255) if image.mode == "1" else indices_HW.astype(np.uint8)
    return as_rgb(greys_HW[:: -1 if is_from_below else 1, :, None])
