"""WebP files, the first frame of animated ones, with nothing but pixels in what Pillow gets.

Source: the WebP container specification (RFC 9649, section 2.7).
"""

import numpy as np

from pipeline.images.orientation import orientation, upright
from pipeline.images.pillow import open_image, rgb

RIFF_BYTES = 12
ANIMATED, ALPHA, METADATA = 0x02, 0x10, 0x2C
"""Bits of the first byte of a VP8X chunk; the last are those of a profile, EXIF and XMP."""


def read(data: bytes) -> np.ndarray:
    """A WebP file as (H, W, 3) uint8. Raises: what Pillow raises on damaged files."""
    metadata: dict[bytes, bytes] = {}
    pixels = _without(metadata, data) if data[RIFF_BYTES : RIFF_BYTES + 4] == b"VP8X" else data
    image = open_image(pixels, "WEBP")
    image.load()
    return upright(rgb(image), orientation(metadata.get(b"EXIF", b""), metadata.get(b"XMP ", b"")))


def _without(metadata: dict[bytes, bytes], data: bytes) -> bytes:
    """The file without its metadata, which is put into the dict by the names of chunks.

    An animation's first frame may be smaller than its canvas. Only where the file claims to have transparent
    parts does libwebp tell the rest of the canvas from black.
    """
    parts, at = [], RIFF_BYTES
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    while at + 8 <= end:
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        stop = at + 8 + size + size % 2
        if name in (b"EXIF", b"XMP ", b"ICCP"):
            metadata.setdefault(name, data[at + 8 : at + 8 + size])
        elif name == b"VP8X":
            flags = data[at + 8] & ~METADATA | (ALPHA if data[at + 8] & ANIMATED else 0)
            parts += [data[at : at + 8], bytes([flags]), data[at + 9 : stop]]
        else:
            parts.append(data[at:stop])
        at = stop
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + len(body).to_bytes(4, "little") + body
