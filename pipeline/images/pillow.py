"""Pillow, asked for one format at a time: what it may open, and its images as 8-bit RGB."""

import io
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageFile

from pipeline.images.samples import on_white

MAX_PIXELS = 89_478_485
"""Pillow's own limit, 256 MiB of RGB; a file that claims more counts as a decompression bomb."""

BOMB = Image.DecompressionBombError
_PYTHON = OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError
DAMAGE = (*_PYTHON, AssertionError, MemoryError, RuntimeError, struct.error, zlib.error, BOMB)
"""Errors that Pillow raises on damaged files: its parsers check little, and stumble."""


class KindError(ValueError):
    """An image is of a kind that isn't shown, named with its article: "a TIFF with 5 bands"."""


def hush() -> None:
    """Silence Pillow's warnings in this process, on odd metadata and on sizes, which are checked here.

    Called once, because `warnings.catch_warnings` around each image isn't safe in threads.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def open_image(data: bytes, kind: str) -> ImageFile.ImageFile:
    """An image of one format, not loaded yet. Raises: what Pillow raises, BOMB for too many pixels."""
    image = Image.open(io.BytesIO(data), formats=[kind])
    check_size(image.width, image.height)
    return image


def check_size(width: int, height: int) -> None:
    """Raises: BOMB for more pixels than are unpacked."""
    if width * height > MAX_PIXELS:
        raise BOMB(f"{width} x {height} pixels")


def rgb(image: Image.Image) -> np.ndarray:
    """A loaded image of 8-bit samples as (H, W, 3) uint8 RGB, its transparent parts on white."""
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return on_white(rgba[..., :3], rgba[..., 3:], 255).astype(np.uint8)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
