"""One image's bytes → RGB pixels, as a viewer shows them, or a refusal that names the image.

Decided here, where formats leave a choice: transparency is shown on white; 16-bit samples are scaled to 8
bits; the camera's orientation is applied; the first of several frames counts; colour profiles are ignored.
"""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps

from pipeline.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "MPO")
"""Pillow's decoders that are tried, by content. Of the others, some start programs (EPS)."""

MAX_PIXELS = 89_478_485
"""Pillow's own limit: 256 MiB of RGB."""

DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    NotImplementedError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises on damaged files, found by mutating them."""


def decode(data: bytes, name: str) -> np.ndarray:
    """An encoded image as (H, W, 3) uint8 RGB. `name` is for the message.

    Raises: DataError when the bytes are empty, no image, cut short, damaged or a decompression bomb.
    """
    if not data:
        raise DataError(f"{name}: expected an image, found an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _rgb(image)
    except DAMAGE as error:
        raise DataError(f"{name}: can't be decoded: {error}") from error


def _rgb(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))
