"""Maps in arrays, and caches with other labels, in the place of a cache that heads are trained on.

Both have what training reads of a `FeatureCache`, and nothing else of it.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import FeatureCache, Labels
from cache.dtypes import Raw
from pipeline.maps.source import Rows

DTYPES = (np.float32, np.float64, np.float16)
"""Types of numbers that are taken as they are; others become the first."""


class ArrayMaps:
    """Maps (N, D), (N, C, H, W) or (N, 2, C, H, W), whose second view is the mirrored image's; not copied."""

    path, key, scales = Path("X"), "", None

    def __init__(self, array: NDArray[Any], labels: Labels, classes: tuple[str, ...]) -> None:
        maps = array[:, :, None, None] if array.ndim == 2 else array
        self.maps = maps if maps.ndim == 5 else maps[:, None]
        self.shape = self.maps.shape
        self.dtype, self.identity = maps.dtype.name, {"views": "plain" if self.shape[1] == 1 else "mirror"}
        self.labels, self.classes, self.multi_label = labels, classes, labels.ndim == 2

    def take(self, rows: Rows, view: Any = 0, out: Raw | None = None) -> Raw:
        """As `FeatureCache.take`."""
        found = self.maps[rows][:, view] if isinstance(view, slice | int) else self.maps[rows, view]
        if out is None:
            return np.ascontiguousarray(found, found.dtype.newbyteorder("="))
        out[...] = found
        return out

    read = take

    def release(self) -> None:
        """Do nothing: whose the array is decides."""

    def verify(self, rows: Rows) -> None:
        """Do nothing: an array has no digests."""


class Labelled:
    """A cache whose images have other labels."""

    def __init__(self, cache: FeatureCache, labels: Labels, classes: tuple[str, ...]) -> None:
        self.cache, self.labels, self.classes = cache, labels, classes
        self.multi_label = labels.ndim == 2

    def __getattr__(self, name: str) -> Any:
        return getattr(self.cache, name)


def stored(X: Any, labels: Labels, classes: tuple[str, ...]) -> FeatureCache:
    """Maps and their labels as training reads them. Raises: ValueError for an array of another shape."""
    if isinstance(X, FeatureCache):
        return Labelled(X, labels, classes)  # pyright: ignore[reportReturnType]
    if X.ndim not in (2, 4, 5) or (X.ndim == 5 and X.shape[1] > 2):
        raise ValueError(
            f"X: expected (N, D), (N, C, H, W), or (N, 2, C, H, W) with mirrored views, found {X.shape}"
        )
    return ArrayMaps(X, labels, classes)  # pyright: ignore[reportReturnType]
