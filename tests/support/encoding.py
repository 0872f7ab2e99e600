"""Small images as files: made by Pillow, or byte by byte."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (9, 14, 3), np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE[:4, :4]).resize((40, 24), Image.Resampling.BICUBIC))


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(samples: np.ndarray, bits: int, color: int, *chunks: bytes) -> bytes:
    """A PNG of (H, W, channels) samples, written by hand: Pillow writes no 16-bit colour."""
    height, width, _ = samples.shape
    big_endian = samples.astype(">u2" if bits == 16 else "u1")
    lines = b"".join(b"\0" + line.tobytes() for line in big_endian)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
