"""Writes PNG files chunk by chunk, and decoders of them that are not Pillow."""

import struct
import zlib

import cv2
import numpy as np
import png as pypng

from support.encoding import chunk
from support.odd_picture import in_levels, on_white
from support.tiff_file import pack

ADAM7 = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))
"""Of each pass: first row and step, first column and step."""


def png(
    samples: np.ndarray,
    bits: int,
    colour: int,
    *chunks: bytes,
    interlaced: bool = False,
    after: tuple[bytes, ...] = (),
) -> bytes:
    """A file of (H, W, C) samples; `chunks` come before the pixels, `after` behind them."""
    height, width, _ = samples.shape
    passes = ADAM7 if interlaced else ((0, 1, 0, 1),)
    lines = bytearray()
    for row, row_step, column, column_step in passes:
        part = samples[row::row_step, column::column_step]
        if part.size:
            lines += filtered(
                pack(part.reshape(len(part), -1), bits), len(part), max(bits * samples.shape[2] // 8, 1)
            )
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    packed = zlib.compress(bytes(lines))
    half = len(packed) // 2
    body = [
        chunk(b"IHDR", header),
        *chunks,
        chunk(b"IDAT", packed[:half]),
        chunk(b"IDAT", packed[half:]),
        *after,
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*body, chunk(b"IEND", b"")])


def filtered(rows: bytes, height: int, step: int) -> bytes:
    """Rows with the filters "none", "sub" and "up" in turn."""
    plain = np.frombuffer(rows, np.uint8).reshape(height, -1)
    out = bytearray()
    for i, row in enumerate(plain):
        before = np.concatenate([np.zeros(step, np.uint8), row[:-step]])[: len(row)]
        above = plain[i - 1] if i else np.zeros_like(row)
        out += bytes([i % 3]) + (row - (0, before, above)[i % 3]).astype(np.uint8).tobytes()
    return bytes(out)


def by_pypng(data: bytes) -> np.ndarray:
    """The numbers in the file, whatever they mean."""
    width, height, rows, info = pypng.Reader(bytes=data).read()
    return np.array([list(row) for row in rows], np.uint16).reshape(height, width, info["planes"])


def by_opencv_on_white(data: bytes) -> np.ndarray:
    """RGB of 0..255 on white. OpenCV forgets the transparent colour of greys, but keeps that of RGB."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    assert found is not None
    colours = found.reshape(*found.shape[:2], -1) / (65535 if found.dtype == np.uint16 else 255)
    if colours.shape[2] == 4:
        colours = on_white(colours[..., 2::-1], colours[..., 3:])
    elif colours.shape[2] == 3:
        colours = colours[..., ::-1]
    return np.broadcast_to(colours * 255, (*found.shape[:2], 3))


def by_pypng_on_white(data: bytes) -> np.ndarray:
    """RGB of 0..255 on white, also where a grey or a colour is transparent."""
    width, height, rows, info = pypng.Reader(bytes=data).asDirect()
    found = np.array([list(row) for row in rows]).reshape(height, width, info["planes"])
    levels = found / (2 ** info["bitdepth"] - 1)
    return in_levels(on_white(levels[..., :-1], levels[..., -1:]) if info["alpha"] else levels)
