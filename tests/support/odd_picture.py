"""A picture in a file of an odd kind: the numbers that were written, and the colours that they stand for."""

import dataclasses
from collections.abc import Callable

import numpy as np

HEIGHT, WIDTH = 11, 21
"""Odd, so that rows end within a byte, a strip and a tile."""

Decoder = Callable[[bytes], np.ndarray]


@dataclasses.dataclass(frozen=True, eq=False)
class Odd:
    """A file, and either the pixels it shows or the words that refuse it."""

    name: str
    data: bytes
    shown: np.ndarray | None = None
    """(H, W, 3) of 0..255, not rounded: from the numbers that were written, in float64."""
    refused: str = ""
    """What the refusal has to say."""
    within: float = 0.5001
    """Levels that a pixel may be off: the rounding to the nearest, more where a code loses some."""
    numbers: np.ndarray | None = None
    """What was written, (H, W) or (H, W, C), as `readers` have to give it back."""
    readers: tuple[Decoder, ...] = ()
    """Independent decoders of numbers that are trusted with this kind."""
    viewers: tuple[Decoder, ...] = ()
    """Independent decoders that are trusted to show this kind, (H, W, 3) of 0..255, within a level."""


def numbers(bits: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """(H, W, C) samples of any depth, the smallest and the largest among them."""
    dtype = np.uint8 if bits <= 8 else np.uint16
    samples = np.random.default_rng([seed, bits, channels]).integers(
        0, 2**bits, (HEIGHT, WIDTH, channels), dtype, endpoint=False
    )
    samples[0, 0], samples[-1, -1] = 0, 2**bits - 1
    return samples


def on_white(colours: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Colours and alpha of 0..1, (H, W, C) and (H, W, 1) → (H, W, C) on white."""
    return colours * alpha + 1 - alpha


def in_levels(colours: np.ndarray) -> np.ndarray:
    """Grey or RGB of 0..1 → (H, W, 3) of 0..255."""
    return np.broadcast_to(colours * 255, (*colours.shape[:2], 3))


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p, 1),
}
"""What each orientation means, from the EXIF standard's picture of the 0th row and 0th column."""
ORIENTATIONS = [*UPRIGHT, 0, 9, 65535]


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Values that mean nothing leave a picture as it is."""
    return UPRIGHT.get(orientation, UPRIGHT[1])(pixels)
