"""PNG files: unpacked by Pillow, their transparent colour found at the file's own depth.

Source: the PNG specification, third edition. Only chunks that tell pixels reach Pillow, so no text, profile
or animation can make it refuse a picture; of the others, EXIF and XMP say how it is turned.
"""

import re
import zlib
from typing import NamedTuple

import numpy as np

from pipeline.images.orientation import orientation, upright
from pipeline.images.pillow import KindError, open_image, rgb
from pipeline.images.samples import as_rgb, on_white, to_8_bits

START = b"\x89PNG\r\n\x1a\n"
XMP = re.compile(rb"XML:com\.adobe\.xmp\0\0\0[^\0]*\0[^\0]*\0")
"""How the chunk of uncompressed text begins that holds XMP."""
BITS = {"1": 1, "L;2": 2, "L;4": 4, "L": 8, "I;16B": 16, "RGB": 8, "RGB;16B": 16}
"""Pillow's names of samples that can have a transparent colour, and their bits in the file."""


class Chunks(NamedTuple):
    """A file, sorted by purpose."""

    pixels: bytes
    """The file with the chunks that tell pixels, without the transparent colour of greys and RGB."""
    transparent: tuple[int, ...]
    """The transparent colour of greys (1) and RGB (3), in the file's depth; empty where there is none."""
    exif: bytes
    xmp: bytes


def read(data: bytes) -> np.ndarray:
    """A PNG file as (H, W, 3) uint8. Raises: KindError, and what Pillow raises on damaged files."""
    chunks = _chunks(data)
    image = open_image(chunks.pixels, "PNG")
    raw = str(image.tile[0].args)
    if raw.endswith("16B"):
        pixels = _shown_16(_samples_16(chunks.pixels, raw), chunks.transparent)
    else:
        image.load()
        pixels = rgb(image)
        if chunks.transparent and raw in BITS:
            white = 2 ** BITS[raw] - 1
            key = np.array([value & white for value in chunks.transparent]) * (255 // white)
            pixels = np.where((pixels == key).all(axis=2, keepdims=True), np.uint8(255), pixels)
    return upright(pixels, orientation(chunks.exif, chunks.xmp))


def _shown_16(samples_HWC: np.ndarray, transparent: tuple[int, ...]) -> np.ndarray:
    channels = samples_HWC.shape[2]
    if channels in (2, 4):
        samples_HWC = on_white(samples_HWC[..., :-1], samples_HWC[..., -1:], 65535)
    elif transparent:
        hidden_HW = (samples_HWC == np.array(transparent)).all(axis=2)
        samples_HWC = np.where(hidden_HW[..., None], np.uint16(65535), samples_HWC)
    return as_rgb(to_8_bits(samples_HWC, 65535))


def _samples_16(data: bytes, raw: str) -> np.ndarray:
    """(H, W, channels) uint16 samples, of which Pillow itself would keep the upper bytes."""
    if raw == "I;16B":
        return _load_as(data, raw)[..., None]
    if raw == "LA;16B":  # the four bytes of a pixel, as if each were a sample
        return np.ascontiguousarray(_load_as(data, "RGBA")).view(">u2")
    upper, lower = _load_as(data, raw), _load_as(data, raw.replace("16B", "16L"))
    return upper.astype(np.uint16) << 8 | lower


def _load_as(data: bytes, raw: str) -> np.ndarray:
    image = open_image(data, "PNG")
    image.tile = [image.tile[0]._replace(args=raw)]
    return np.asarray(image)


def _chunks(data: bytes) -> Chunks:
    kept, exif, xmp = [START], b"", b""
    colour_type, transparent, begun = -1, b"", False
    at = len(START)
    while at < len(data):
        name, stop = data[at + 4 : at + 8], at + 12 + int.from_bytes(data[at : at + 4])
        content = data[at + 8 : stop - 4]
        is_critical = name[:1].isupper()
        if name == b"CgBI":
            raise KindError("a PNG of Apple's own kind (CgBI)")
        if name == b"IHDR":
            colour_type = content[9] if len(content) > 9 else -1
        begun = begun or name == b"IDAT"
        if is_critical or (name == b"tRNS" and colour_type == 3 and not begun):
            kept.append(data[at:stop])
        elif zlib.crc32(name + content) != int.from_bytes(data[stop - 4 : stop]):
            if name == b"tRNS":
                raise ValueError("the transparent colour is damaged")
        elif name == b"tRNS" and not begun:
            transparent = content
        elif name == b"eXIf":
            exif = content
        elif name == b"iTXt" and (start := XMP.match(content)):
            xmp = content[start.end() :]
        if name == b"IEND":
            break
        at = stop
    return Chunks(b"".join(kept), _transparent_colour(transparent, colour_type), exif, xmp)


def _transparent_colour(content: bytes, colour_type: int) -> tuple[int, ...]:
    values = {0: 1, 2: 3}.get(colour_type, 0)
    if content and len(content) < 2 * values:
        raise ValueError("the transparent colour is cut short")
    return tuple(int.from_bytes(content[2 * i : 2 * i + 2]) for i in range(values)) if content else ()
