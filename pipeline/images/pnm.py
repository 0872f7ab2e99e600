"""PBM, PGM and PPM files, plain and raw, with any largest value that they may name."""

import numpy as np

from pipeline.images.pillow import open_image, rgb
from pipeline.images.samples import as_rgb, to_8_bits


def read(data: bytes) -> np.ndarray:
    """A file that starts with P1 to P6 as (H, W, 3) uint8. Raises: what Pillow raises on damaged files."""
    image = open_image(data, "PPM")
    image.load()
    if image.mode == "I" or image.mode.startswith("I;16"):  # Pillow's greys of more than 8 bits, up to 65,535
        return as_rgb(to_8_bits(np.asarray(image), 65535)[..., None])
    return rgb(image)
