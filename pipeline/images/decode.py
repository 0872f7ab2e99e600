"""One image's bytes → RGB pixels, as a viewer shows them, or a refusal that names the image.

Where formats leave a choice: transparency is shown on white, samples of other depths are scaled to 8 bits (to
the nearest), the camera's orientation is applied, the first of several frames or pages counts, and colour
profiles are ignored. Metadata is read for the orientation alone, and decides nothing where it is damaged.

Each format has a module with a function `read`. docs/images.md lists what is shown and what is refused.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from pipeline.errors import DataError
from pipeline.images import bmp, gif, jpeg, png, pnm, tiff, webp
from pipeline.images.directory import STARTS as TIFF_STARTS
from pipeline.images.pillow import BOMB, DAMAGE, MAX_PIXELS, KindError

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
READERS: dict[bytes, Callable[[bytes], np.ndarray]] = {
    jpeg.START: jpeg.read,
    png.START: png.read,
    b"BM": bmp.read,
    b"GIF8": gif.read,
    **dict.fromkeys(TIFF_STARTS, tiff.read),
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), pnm.read),
}
"""By the first bytes of a file, whatever its name is. (WebP's are not its first.)"""

OTHERS = {
    b"\0\0\0\x0cjP": "a JPEG 2000 file",
    b"\xff\x4f\xff\x51": "a JPEG 2000 file",
    b"\0\0\0\x0cJXL ": "a JPEG XL file",
    b"\xff\x0a": "a JPEG XL file",
    b"II\xbc\x01": "a JPEG XR file",
    b"\0\0\1\0": "an icon (ICO)",
    b"8BPS": "a Photoshop file",
    b"%PDF": "a PDF file",
    b"%!PS": "a PostScript file",
    b"\xc5\xd0\xd3\xc6": "a PostScript file",
    b"P7": "a PAM file",
    b"PF": "a file of floating-point samples (PFM)",
    b"Pf": "a file of floating-point samples (PFM)",
    b"v/1\x01": "an OpenEXR file",
    b"#?RA": "a Radiance HDR file",
    b"SIMPLE  =": "a FITS file",
    b"qoif": "a QOI file",
    b"DDS ": "a DDS file",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "an HDF5 file",
    b"PK\3\4": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML file",
    b"<!DOCTYPE": "a web page",
    b"<!doctype": "a web page",
    b"<html": "a web page",
}
"""Files that are met in place of images, by their first bytes."""


class ImageError(DataError):
    """An image can't be read or decoded."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both in args, so that it can be sent from process to process
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def decode(data: bytes, name: str) -> np.ndarray:
    """An encoded image as (H, W, 3) uint8 RGB. `name` is for the message.

    Raises: ImageError when the bytes are empty, no image, of a kind that isn't shown, cut short, damaged or a
        decompression bomb.
    """
    if not data:
        raise ImageError(name, "expected an image, found an empty file")
    read = _reader(data)
    if read is None:
        raise ImageError(name, f"expected an image ({', '.join(FORMATS)}), found {_named(data)}")
    try:
        return read(data)
    except KindError as error:
        reason = f"expected pixels that can be shown, found {error}; save it as an 8-bit PNG"
        raise ImageError(name, reason) from error
    except Image.UnidentifiedImageError as error:  # its text holds an address in memory
        raise ImageError(name, "can't be decoded: its header is damaged, or of an unknown variant") from error
    except BOMB as error:
        reason = (
            f"expected at most {MAX_PIXELS:,} pixels, found a decompression bomb ({error}); make it smaller"
        )
        raise ImageError(name, reason) from error
    except DAMAGE as error:
        raise ImageError(name, f"can't be decoded: {error or type(error).__name__}") from error


def _reader(data: bytes) -> Callable[[bytes], np.ndarray] | None:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return webp.read
    return next((read for start, read in READERS.items() if data.startswith(start)), None)


def _named(data: bytes) -> str:
    if data[4:8] == b"ftyp":
        brands = {b"avi": "an AVIF file", b"hei": "a HEIC file", b"mif": "a HEIF file"}
        return brands.get(data[8:11], "a video")
    if data[128:132] == b"DICM":
        return "a DICOM file"
    text = data[:100].lstrip(b"\xef\xbb\xbf \r\n\t")
    return next((name for start, name in OTHERS.items() if text.startswith(start)), "something else")
