"""One image's bytes → RGB pixels, as a viewer shows them, or a refusal that names the image.

Where formats leave a choice: transparency is shown on white, 16-bit samples are scaled to 8 bits, the
camera's orientation is applied, the first of several frames counts, and colour profiles are ignored.

simplejpeg decodes JPEG files, in two thirds of Pillow's time and to the same pixels. Pillow decodes all other
formats, and JPEG files that are turned, in CMYK or damaged.
"""

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps

from pipeline.errors import DataError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Formats that are tried, by content. Some of Pillow's others start programs (EPS)."""

MAX_PIXELS = 89_478_485
"""Pillow's own limit, 256 MiB of RGB; a file that claims more counts as a decompression bomb."""

JPEG_START, APP1, SCAN = b"\xff\xd8\xff", 0xE1, 0xDA
HEADER_SEGMENTS = frozenset({*range(0xC0, 0xD0), *range(0xDB, 0xF0), 0xFE}) - {APP1}
"""JPEG markers that a length follows, and nothing about the orientation."""

_BOMB = Image.DecompressionBombError
_PYTHON = OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError
DAMAGE = (*_PYTHON, AssertionError, MemoryError, RuntimeError, struct.error, zlib.error, _BOMB)
"""Errors that Pillow raises on damaged files: its parsers check little, and stumble."""


class ImageError(DataError):
    """An image can't be read or decoded."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both in args, so that it can be sent from process to process
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def hush() -> None:
    """Silence Pillow's warnings in this process, on odd metadata and on sizes, which are checked here.

    Called once, because `warnings.catch_warnings` around each image isn't safe in threads.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(data: bytes, name: str) -> np.ndarray:
    """An encoded image as (H, W, 3) uint8 RGB. `name` is for the message.

    Raises: ImageError when the bytes are empty, no image, cut short, damaged or a decompression bomb.
    """
    if not data:
        raise ImageError(name, "expected an image, found an empty file")
    if (pixels := _upright_jpeg(data)) is not None:
        return pixels
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise _BOMB(f"{image.width} x {image.height} pixels")
        image.load()
        with contextlib.suppress(*DAMAGE):  # the pixels are good: damaged metadata says nothing
            ImageOps.exif_transpose(image, in_place=True)
        return _rgb(image)
    except Image.UnidentifiedImageError as error:  # its text holds an address in memory
        raise ImageError(name, f"expected an image ({', '.join(FORMATS)}), found something else") from error
    except _BOMB as error:
        reason = (
            f"expected at most {MAX_PIXELS:,} pixels, found a decompression bomb ({error}); make it smaller"
        )
        raise ImageError(name, reason) from error
    except DAMAGE as error:
        raise ImageError(name, f"can't be decoded: {error or type(error).__name__}") from error


def _upright_jpeg(data: bytes) -> np.ndarray | None:
    """The pixels of a sound JPEG file in colour or grey that isn't turned; None for everything else."""
    if not data.startswith(JPEG_START):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if int(height) * int(width) > MAX_PIXELS or colours in ("CMYK", "YCCK") or _is_turned(data):
            return None
        return simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    except DAMAGE:
        return None


def _is_turned(data: bytes) -> bool:
    """Whether a JPEG file asks to be shown in another orientation.

    Only an APP1 segment (EXIF, XMP) before the first scan can ask for it. Most files of datasets have none,
    and Pillow, whose reading of a header takes longer than decoding a small image, isn't asked about them.
    """
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] in HEADER_SEGMENTS:
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    if data[at : at + 2] == bytes((0xFF, SCAN)):
        return False
    return Image.open(io.BytesIO(data), formats=FORMATS).getexif().get(ExifTags.Base.Orientation, 1) != 1


def _rgb(image: Image.Image) -> np.ndarray:
    if image.mode == "RGB" and "transparency" not in image.info:
        return np.asarray(image)
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_16_bit(image)
    if image.mode in ("I", "F"):
        raise ValueError("32-bit samples have no agreed white; store 8 or 16 bits")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.asarray(image.convert("RGB"))


def _from_16_bit(image: Image.Image) -> np.ndarray:
    """Grey samples 0..65535, to the nearest of 0..255."""
    samples_HW = np.asarray(image).astype(np.uint32)
    grey_HW = ((samples_HW + 128) // 257).astype(np.uint8)
    if (transparent := image.info.get("transparency")) is not None:
        grey_HW[samples_HW == transparent] = 255
    return np.repeat(grey_HW[..., None], 3, axis=-1)
