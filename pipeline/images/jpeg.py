"""JPEG files: simplejpeg decodes them in two thirds of Pillow's time and to the same pixels.

Pillow decodes what simplejpeg doesn't: CMYK, and files that are slightly damaged.
"""

from collections.abc import Container

import numpy as np
import simplejpeg

from pipeline.images.orientation import orientation, upright
from pipeline.images.pillow import DAMAGE, MAX_PIXELS, KindError, open_image, rgb

START = b"\xff\xd8\xff"
APP0, APP1, APP14, COMMENT, SCAN, END = 0xE0, 0xE1, 0xEE, 0xFE, 0xDA, 0xD9
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of the frame header, by coding."""
JPEG_LS = 0xF7
READ = FRAMES | {APP1, JPEG_LS}
SEGMENTS = frozenset(range(0x02, 0xFF)) - {*range(0xD0, 0xD9), SCAN, END}
"""Markers that a length follows, up to the first scan."""
EXIF, XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"


def read(data: bytes) -> np.ndarray:
    """A JPEG file as (H, W, 3) uint8. Raises: KindError, and what Pillow raises on damaged files."""
    frame = exif = xmp = b""
    for marker, start, stop in _segments(data, READ)[0]:
        if marker in FRAMES:
            frame = frame or data[start + 4 : stop]
        elif marker == JPEG_LS:
            raise KindError("a JPEG-LS file")
        else:
            content = data[start + 4 : stop]
            exif = exif or (content if content.startswith(EXIF) else b"")
            xmp = xmp or (content if content.startswith(XMP) else b"")
    if len(frame) > 5 and (frame[0] != 8 or frame[5] not in (1, 3, 4)):  # depth, height, width, components
        what = f"{frame[0]}-bit JPEG" if frame[0] != 8 else f"JPEG with {frame[5]} components"
        raise KindError(f"a {what}")
    pixels = _fast(data)
    if pixels is None:
        image = open_image(_pixels_alone(data), "JPEG")
        image.load()
        pixels = rgb(image)
    return upright(pixels, orientation(exif, xmp))


def _fast(data: bytes) -> np.ndarray | None:
    """The pixels of a sound file in colour or grey; None for everything else."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        if int(height) * int(width) > MAX_PIXELS or colours in ("CMYK", "YCCK"):
            return None
        return simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True)
    except DAMAGE:
        return None


def _segments(data: bytes, wanted: Container[int]) -> tuple[list[tuple[int, int, int]], int]:
    """Marker, start and stop of the header's segments that are wanted, and where the header stops.

    What is no segment is passed over, as libjpeg does.
    """
    found, at, last = [], 2, len(data) - 4
    while at <= last:
        if data[at] != 0xFF:
            at = data.find(0xFF, at) % (len(data) + 1)  # the end where there is none
        elif (marker := data[at + 1]) in SEGMENTS:
            stop = at + 2 + (data[at + 2] << 8 | data[at + 3])
            if marker in wanted:
                found.append((marker, at, stop))
            at = stop
        elif marker in (SCAN, END):
            break
        else:
            at += 1 if marker == 0xFF else 2
    return found, at


def _pixels_alone(data: bytes) -> bytes:
    """The file without segments that say nothing about pixels: Pillow stumbles over some."""
    segments, scan = _segments(data, SEGMENTS)
    kept = [
        data[start:stop] for marker, start, stop in segments if _tells_pixels(marker, data[start + 4 : stop])
    ]
    return b"".join([data[:2], *kept, data[scan:]])


def _tells_pixels(marker: int, content: bytes) -> bool:
    """Whether a segment can change a pixel: not comments, and of APPn two that name the colour space."""
    if marker == APP0:
        return content.startswith(b"JFIF\0") and len(content) >= 14
    if marker == APP14:
        return content.startswith(b"Adobe") and len(content) >= 12
    return marker != COMMENT and marker not in range(APP0, APP0 + 16)
