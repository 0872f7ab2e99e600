"""How int8 numbers stand for values: a scale and a zero point for each channel (FORMAT.md §2).

Legend: maps (..., C, H, W); scales (2, C) float32: scale and zero point; value = (number − zero) × scale.
"""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.identity import key

Scales = NDArray[np.float32]
LOWEST, HIGHEST = -128, 127
SMALLEST, LARGEST = 2.0**-126, 2.0**119  # of a scale: every value is 0 or a normal, finite float32
SAMPLE = 1024
HEADROOM = 1.25
"""How far the range goes beyond what the sample holds: other maps have larger numbers (LOG.md)."""
_PIECE = 1 << 16
"""Numbers converted at once: what is computed on the way stays in the processor's cache."""


def fit_scales(maps: Iterable[NDArray[np.floating]]) -> Scales:
    """Choose scales (2, C) that cover what a sample of maps holds, some more, and zero, which is exact.

    maps: chunks (..., C, H, W) of the sample. A channel without any range takes the largest of the scales.

    Raises: ValueError when there are no maps, or a number isn't finite.
    """
    low, high = np.float64(0), np.float64(0)
    for chunk in maps:
        cells = chunk.reshape(-1, chunk.shape[-3], chunk.shape[-2] * chunk.shape[-1])
        low, high = np.minimum(low, cells.min((0, 2))), np.maximum(high, cells.max((0, 2)))
    if not np.ndim(low) or not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ValueError("scales: expected a sample of maps of finite numbers")
    low, high = (HEADROOM * np.asarray(end, np.float64) for end in (low, high))
    steps = (high - low) / (HIGHEST - LOWEST)
    steps = np.where(steps > 0, steps, steps.max() or 1.0)
    scales = np.clip(steps, SMALLEST, LARGEST).astype(np.float32)
    zeros = np.clip(np.rint(LOWEST - low / scales), LOWEST, HIGHEST)
    return np.stack([scales, (zeros + 0.0).astype(np.float32)])


def sample_rows(rows: int) -> list[int]:
    """The rows that scales are fitted to: up to 1,024, spread evenly over all of them."""
    return np.unique(np.linspace(0, rows - 1, min(rows, SAMPLE)).astype(np.int64)).tolist()


def scales_problem(scales: ArrayLike, channels: int) -> str:
    """Why these are no scales of so many channels, in words; empty when they are."""
    given = np.asarray(scales)
    if given.dtype != np.float32 or given.shape != (2, channels):
        return f"expected float32 of shape {(2, channels)}, found {given.dtype} of shape {given.shape}"
    steps, zeros = given.astype(np.float64)
    for name, good, expected in (
        ("scale", (steps >= SMALLEST) & (steps <= LARGEST), "a number from 2^-126 to 2^119"),
        (
            "zero point",
            (zeros == np.rint(zeros))
            & (zeros >= LOWEST)
            & (zeros <= HIGHEST)
            & ~(np.signbit(zeros) & (zeros == 0)),
            f"a whole number from {LOWEST} to {HIGHEST}",
        ),
    ):
        if not good.all():
            channel = int(good.argmin())
            found = (steps if name == "scale" else zeros)[channel]
            return f"expected as {name} of channel {channel} {expected}, found {found:g}"
    return ""


def as_json(scales: Scales) -> dict[str, Any]:
    """Scales as a header holds them."""
    return {"scale": scales[0].tolist(), "zero_point": scales[1].astype(int).tolist()}


def stored_as(dtype: str, scales: Scales | None) -> dict[str, Any]:
    """How numbers are stored, as the key holds it: the dtype, and a digest of the scales if there are any."""
    return {"dtype": dtype} | ({} if scales is None else {"scales": key(as_json(scales))})


def scales_of(found: Any) -> Scales:
    """The other way round. Raises: ValueError when these are no scales."""
    if not isinstance(found, dict) or found.keys() != {"scale", "zero_point"}:
        raise ValueError("scales: expected a list of each, scale and zero_point, found something else")
    for name, kinds in (("scale", (int, float)), ("zero_point", (int,))):
        numbers = found[name]
        if not isinstance(numbers, list) or any(type(number) not in kinds for number in numbers):
            raise ValueError(f"scales: expected a list of numbers as {name}, found something else")
    if len(found["scale"]) != len(found["zero_point"]):
        raise ValueError("scales: expected as many zero points as scales")
    try:
        with np.errstate(over="ignore"):
            scales = np.array([found["scale"], found["zero_point"]], np.float64).astype(np.float32)
    except OverflowError:
        scales = np.zeros(0, np.float32)
    if scales.tolist() != [found["scale"], found["zero_point"]]:
        raise ValueError("scales: expected numbers that float32 can hold, found others")
    return scales


def has_scales(provenance: bytes, scales: Scales) -> bool:
    """Whether these are the scales in the provenance of a file."""
    try:
        return json.loads(provenance)["scales"] == as_json(scales)
    except (ValueError, RecursionError, KeyError, TypeError):
        return False


def quantise(values: NDArray[np.floating], scales: Scales) -> tuple[NDArray[np.int8], int]:
    """Give finite maps (..., C, H, W) their numbers; and how many lay beyond these, and were saturated."""
    single = np.ascontiguousarray(values, np.float32)
    raw: NDArray[np.int8] = np.empty(single.shape, np.int8)
    steps, zeros, rows = _along(scales, single.shape)
    saturated = 0
    flat, numbers = single.reshape(-1, steps.size), raw.reshape(-1, steps.size)
    for at in range(0, len(flat), rows):
        with np.errstate(over="ignore"):  # infinity is saturated like all beyond the range
            found = flat[at : at + rows] / steps
        np.rint(found, out=found)
        found += zeros
        saturated += int(np.count_nonzero((found < LOWEST) | (found > HIGHEST)))
        np.clip(found, LOWEST, HIGHEST, out=found)
        numbers[at : at + rows] = found
    return raw, saturated


def dequantise(
    raw: NDArray[np.int8], scales: Scales, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Give numbers (..., C, H, W) the values that they stand for, in `out` if it is given."""
    out = np.empty(raw.shape, np.float32) if out is None else out
    steps, zeros, rows = _along(scales, raw.shape)
    flat, values = raw.reshape(-1, steps.size), out.reshape(-1, steps.size)
    for at in range(0, len(flat), rows):
        piece = values[at : at + rows]
        piece[...] = flat[at : at + rows]
        piece -= zeros
        piece *= steps
    return out


def _along(scales: Scales, shape: tuple[int, ...]) -> tuple[Scales, Scales, int]:
    """Scales and zero points of every number of a map, and how many maps are a piece."""
    cells = shape[-2] * shape[-1]
    steps, zeros = (np.broadcast_to(row, shape[-3]).repeat(cells) for row in scales)
    return steps, zeros, max(1, _PIECE // steps.size)
