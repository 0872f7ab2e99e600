"""Features as they are stored, or refused by image and row (FORMAT.md §2)."""

import numpy as np

from cache.dtypes import DTYPES, Raw, Values
from cache.errors import CacheError
from cache.header import CacheHeader
from cache.scales import quantise


def encoded(header: CacheHeader, rows: range, features: Values, file: str) -> tuple[Raw, int]:
    """Features (n, V, C, H, W) of any n rows as they are stored in `file`, and how many were saturated.

    Raises: CacheError when the shape is another, or a value is NaN, infinite or too large for the dtype
    (naming image and row).
    """
    shape = (len(rows), *header.shape[1:])
    if features.dtype.kind != "f" or features.shape != shape:
        raise CacheError(
            f"{file}: features: expected floating point of shape {shape}, "
            f"found {features.dtype} of shape {features.shape}"
        )
    # An integer can't say that it was no number: of int8 the values are looked at.
    dtype = DTYPES[header.dtype if header.scales is None else "float32"]
    raw = dtype.encode(features)
    if not dtype.all_finite(raw):
        where = np.unravel_index(int(np.argmin(dtype.finite(raw))), shape)
        row, value = rows[int(where[0])], float(features[where])
        problem = (
            f"{value:g} is too large for {dtype.name} (at most {dtype.largest:g}); store another dtype"
            if np.isfinite(value)
            else f"the trunk computed {value}; look at the image and at the weights"
        )
        raise CacheError(f"{file}: row {row} ({header.paths[row]}): {problem}")
    return (raw, 0) if header.scales is None else quantise(raw, header.scales)
