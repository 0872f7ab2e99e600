"""Writes TIFF files tag by tag."""

import lzma
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np

from support.odd_picture import HEIGHT

CODES: dict[int, Any] = {
    1: bytes,
    5: imagecodecs.lzw_encode,
    8: zlib.compress,
    32946: zlib.compress,
    32773: imagecodecs.packbits_encode,
    34925: lzma.compress,
    50000: imagecodecs.zstd_encode,
}
STRUCT = {3: "H", 4: "I", 5: "II", 16: "Q", 7: "B", 2: "B"}


def pack(samples: np.ndarray, bits: int, order: str = ">") -> bytes:
    """(H, n) samples, each row to whole bytes, the highest bit first."""
    if bits == 16:
        return samples.astype(f"{order}u2").tobytes()
    as_bits = samples[..., None].astype(np.int64) >> np.arange(bits - 1, -1, -1) & 1
    return np.packbits(as_bits.reshape(len(samples), -1).astype(np.uint8), axis=1).tobytes()


def tiff(
    samples: np.ndarray,
    bits: int,
    photometric: int,
    *,
    order: str = "<",
    big: bool = False,
    planar: bool = False,
    rows: int = HEIGHT,
    tile: tuple[int, int] | None = None,
    code: int = 1,
    predictor: int = 1,
    fill_order: int = 1,
    tags: dict[int, tuple[int, list[int]]] | None = None,
    without: tuple[int, ...] = (),
) -> bytes:
    """A file of (H, W, C) samples. `tags` are further ones, as {number: (type, values)}."""
    height, width, bands = samples.shape
    parts = [samples[..., i : i + 1] for i in range(bands)] if planar else [samples]
    rows_high, columns = tile or (rows, width)
    blocks = []
    for part in parts:
        for top in range(0, height, rows_high):
            for left in range(0, width, columns):
                block = part[top : top + rows_high, left : left + columns]
                if tile:
                    short = (rows_high - block.shape[0], columns - block.shape[1])
                    block = np.pad(block, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
                if predictor == 2:
                    block = np.concatenate([block[:, :1], np.diff(block, axis=1)], axis=1)
                packed = pack(block.reshape(len(block), -1), bits, order)
                if fill_order == 2:
                    packed = bytes(int(f"{byte:08b}"[::-1], 2) for byte in packed)
                blocks.append(CODES[code](packed))
    fields = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * bands),
        259: (3, [code]),
        262: (3, [photometric]),
        277: (3, [bands]),
        284: (3, [2 if planar else 1]),
        317: (3, [predictor]),
    }
    if fill_order == 2:
        fields[266] = (3, [2])
    names = (324, 325) if tile else (273, 279)
    fields |= {322: (3, [columns]), 323: (3, [rows_high])} if tile else {278: (4, [rows])}
    start = 16 if big else 8
    starts = np.cumsum([start, *map(len, blocks)])[:-1].tolist()
    fields |= {names[0]: (16 if big else 4, starts), names[1]: (4, [len(block) for block in blocks])}
    fields |= tags or {}
    fields = {tag: field for tag, field in fields.items() if tag not in without}
    return with_directory(b"".join(blocks), fields, order, big)


def with_directory(body: bytes, fields: dict[int, tuple[int, list[int]]], order: str, big: bool) -> bytes:
    """A file of a header, what follows it, and a directory."""
    at, head, room = ("Q", 16, 8) if big else ("I", 8, 4)
    body += b"\0" * (len(body) % 2)
    place = head + len(body)
    entries, beside = b"", b""
    after = place + (16 if big else 6) + (20 if big else 12) * len(fields)
    for tag, (kind, values) in sorted(fields.items()):
        packed = struct.pack(
            f"{order}{STRUCT[kind] * len(values)}" if kind != 5 else f"{order}{len(values)}I", *values
        )
        count = len(values) // 2 if kind == 5 else len(values)
        entries += struct.pack(f"{order}HH{at}", tag, kind, count)
        if len(packed) > room:
            entries += struct.pack(order + at, after + len(beside))
            beside += packed + b"\0" * (len(packed) % 2)
        else:
            entries += packed.ljust(room, b"\0")
    start = b"II" if order == "<" else b"MM"
    header = start + struct.pack(
        f"{order}HHHQ" if big else f"{order}HI", *((43, 8, 0) if big else (42,)), place
    )
    return (
        header
        + body
        + struct.pack(order + ("Q" if big else "H"), len(fields))
        + entries
        + bytes(room)
        + beside
    )
