"""Plain JPEG files straight to pixels: small ones take half the time that `Image.open` takes.

`Image.open` keeps all that a header says. Here it is only walked over, to see that there is nothing in it but
an RGB image of some size: three components of 8 bits, no EXIF, no profile, no word of Adobe's on colours.
Pillow's decoder then gets the bytes and arguments that it would get from `Image.open`, so it gives the same
pixels. Every other file, and every one that it doesn't finish, is for
`pipeline.images.decode`, which says what is wrong with it.
"""

import threading

import numpy as np
from PIL import Image, ImageFile

MAX_BYTES = ImageFile.MAXBLOCK
"""Pillow gives more than this to the decoder in pieces, and damaged files might then come out differently."""
MAX_PIXELS = 1 << 20
"""Of larger images the header is a small part, and a large canvas is not worth keeping."""

SOI = b"\xff\xd8"
APP0, COMMENT, HUFFMAN, QUANTIZATION, RESTART, SCAN = 0xE0, 0xFE, 0xC4, 0xDB, 0xDD, 0xDA
FRAMES = (0xC0, 0xC1, 0xC2)
"""Baseline, extended, progressive."""


class _Last(threading.local):
    """This thread's last plain file. The files of a dataset are often of one size and from one encoder."""

    def __init__(self) -> None:
        self.header, self.canvas = b"", Image.new("RGB", (1, 1))


_last = _Last()


def decode_plain(data: bytes) -> np.ndarray | None:
    """A plain JPEG file as (H, W, 3) uint8 RGB; None for all else."""
    if len(data) > MAX_BYTES:
        return None
    try:
        if not (_last.header and data.startswith(_last.header)):
            header, size = plain_header(data)
            if not header:
                return None
            _last.header, _last.canvas = header, Image.new("RGB", size)
        _last.canvas.frombytes(data, "jpeg", "RGB", "")
        return np.asarray(_last.canvas)  # a copy; a decoder that finishes has written every pixel
    except (ValueError, OSError, MemoryError):
        return None


def plain_header(data: bytes) -> tuple[bytes, tuple[int, int]]:
    """The file up to its first scan, and (width, height); empty when Pillow might find more in it."""
    size, at, end = (0, 0), 2, len(data)
    if not data.startswith(SOI):
        return b"", size
    while at + 4 <= end and data[at] == 0xFF:
        marker, start = data[at + 1], at + 4
        at += 2 + (data[at + 2] << 8 | data[at + 3])
        if not start <= at <= end:
            break
        if marker == SCAN and size != (0, 0):
            return data[:at], size
        if marker in FRAMES and size == (0, 0):
            size = _frame_size(data[start:at])
            if size == (0, 0):
                break
        elif not _is_plain(marker, data[start:at]):
            break
    return b"", size


def _frame_size(frame: bytes) -> tuple[int, int]:
    """(width, height) of three components of 8 bits, (0, 0) of others and of nothing."""
    if len(frame) != 15 or frame[0] != 8 or frame[5] != 3:
        return 0, 0
    height, width = frame[1] << 8 | frame[2], frame[3] << 8 | frame[4]
    return (width, height) if 0 < width * height <= MAX_PIXELS else (0, 0)


def _is_plain(marker: int, segment: bytes) -> bool:
    """Whether Pillow reads this segment without an error, and it changes nothing that is shown."""
    if marker == QUANTIZATION:  # whole tables of 8 bits
        return len(segment) % 65 == 0 and max(segment[::65], default=0) < 16
    if marker == APP0:  # Pillow takes a JFIF segment that ends before its version for no image
        return len(segment) >= 7
    return marker in (HUFFMAN, RESTART, COMMENT)
