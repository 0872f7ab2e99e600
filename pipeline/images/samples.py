"""Samples of any depth → 8 bits a sample, with transparency shown on white.

Legend: H×W pixels, C colours; `white` is the largest value a sample can have, 2**bits - 1.
"""

import functools

import numpy as np
from PIL import Image


def unpack(packed: np.ndarray, bits: int, count: int, order: str = ">") -> np.ndarray:
    """(..., bytes) uint8 → (..., count) samples of 1 to 16 bits, uint8 or uint16.

    They follow each other without gaps, the highest bit first. `order` is that of the bytes of 16 bits, as in
    numpy's types.
    """
    if bits == 8:
        return packed[..., :count]
    if bits == 16:
        return np.ascontiguousarray(packed).view(f"{order}u2")[..., :count].astype(np.uint16)
    if bits == 1:
        return np.unpackbits(packed, axis=-1)[..., :count]
    starts = np.arange(count) * bits
    first = starts // 8
    padded = np.concatenate([packed, np.zeros_like(packed[..., :2])], axis=-1).astype(np.uint32)
    three_bytes = padded[..., first] << 16 | padded[..., first + 1] << 8 | padded[..., first + 2]
    shifted = three_bytes >> (24 - bits - starts % 8).astype(np.uint32)
    return (shifted & (2**bits - 1)).astype(np.uint16)


def to_8_bits(samples: np.ndarray, white: int) -> np.ndarray:
    """Samples 0..white, to the nearest of 0..255."""
    return samples.astype(np.uint8, copy=False) if white == 255 else _levels(white)[samples]


@functools.cache
def _levels(white: int) -> np.ndarray:
    return ((np.arange(white + 1) * 255 + white // 2) // white).astype(np.uint8)


def on_white(colours_HWC: np.ndarray, alpha_HW1: np.ndarray, white: int) -> np.ndarray:
    """Colours on white ground, of the same depth: all of it where alpha is 0, none at `white`."""
    wide = np.uint16 if white <= 255 else np.uint32  # holds white**2 + white // 2
    colours, alpha = colours_HWC.astype(wide), alpha_HW1.astype(wide)
    return (colours * alpha + white * (white - alpha) + white // 2) // white


def as_rgb(colours_HWC: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8, contiguous, of 8-bit grey (H, W, 1) or RGB."""
    if colours_HWC.shape[2] == 1:
        return np.asarray(Image.fromarray(colours_HWC[..., 0]).convert("RGB"))
    return np.ascontiguousarray(colours_HWC)
