"""GIF files: frames smaller than their canvas, transparent entries, palettes of greys or none."""

import struct
from collections.abc import Iterator
from itertools import product

import numpy as np

from support.odd_picture import HEIGHT, WIDTH, Odd, numbers
from support.opencv import by_opencv


def gif(
    indices: np.ndarray,
    palette: np.ndarray,
    canvas: tuple[int, int],
    at: tuple[int, int] = (0, 0),
    transparent: int | None = None,
    background: int = 0,
    local: bool = False,
    interlaced: bool = False,
    bare: bool = False,
) -> bytes:
    """One frame (h, w), at (row, column) of a canvas (height, width). A bare one has no palette."""
    bits = len(palette).bit_length() - 1
    colours = palette.astype(np.uint8).tobytes()
    has_global, has_local = not bare and not local, not bare and local
    data = b"GIF89a" + struct.pack(
        "<HHBBB", canvas[1], canvas[0], 0x80 * has_global | (bits - 1), background, 0
    )
    data += colours * has_global
    if transparent is not None:
        data += b"!\xf9\4" + bytes([1, 0, 0, transparent, 0])
    order = [
        *range(0, len(indices), 8),
        *range(4, len(indices), 8),
        *range(2, len(indices), 4),
        *range(1, len(indices), 2),
    ]
    written = indices[order] if interlaced else indices
    flags = 0x80 * has_local | 0x40 * interlaced | (bits - 1) * has_local
    data += (
        b","
        + struct.pack("<HHHHB", at[1], at[0], indices.shape[1], indices.shape[0], flags)
        + colours * has_local
    )
    return data + bytes([bits]) + blocks(uncompressed(written.ravel(), bits)) + b";"


def uncompressed(indices: np.ndarray, bits: int) -> bytes:
    """LZW without a table: a clear code before each few indices keeps all codes at bits + 1."""
    codes: list[int] = []
    for i, index in enumerate(indices.tolist()):
        if i % max(2**bits - 3, 1) == 0:
            codes.append(2**bits)
        codes.append(index)
    codes.append(2**bits + 1)
    lowest_first = np.array(codes)[:, None] >> np.arange(bits + 1) & 1
    return np.packbits(lowest_first.astype(np.uint8).ravel(), bitorder="little").tobytes()


def blocks(data: bytes) -> bytes:
    return (
        b"".join(bytes([len(part)]) + part for part in (data[i : i + 255] for i in range(0, len(data), 255)))
        + b"\0"
    )


PLACES = {
    "whole": ((HEIGHT, WIDTH), (0, 0)),
    "small": ((HEIGHT + 9, WIDTH + 5), (4, 3)),
    "corner": ((HEIGHT + 1, WIDTH + 40), (1, 40)),
}
"""Canvas and upper left corner of a frame."""


def gifs() -> Iterator[Odd]:
    for bits, where, transparent, local, is_grey in product(
        (2, 4, 8), PLACES, (None, 1), (False, True), (False, True)
    ):
        canvas, (top, left) = PLACES[where]
        colours = np.random.default_rng(bits).integers(0, 255, (2**bits, 3))
        if is_grey:
            colours = np.repeat(np.arange(2**bits)[:, None], 3, 1)
        indices = numbers(bits, seed=11)[..., 0]
        frame = colours[indices] * 1.0
        if transparent is not None:
            frame[indices == transparent] = 255
        shown = np.full((*canvas, 3), 255.0)
        shown[top : top + HEIGHT, left : left + WIDTH] = frame
        data = gif(indices, colours, canvas, (top, left), transparent, 2, local, interlaced=local)
        name = f"GIF {bits} bits, {where} frame, transparent {transparent}, local {local}, grey {is_grey}"
        trusted = where == "whole" and transparent is None
        yield Odd(name, data, shown, viewers=(by_opencv,) * trusted)
    bare = gif(numbers(2)[..., 0], np.zeros((4, 3)), (HEIGHT, WIDTH), bare=True)
    yield Odd("GIF without a palette", bare, refused="a GIF without a palette")
