"""What every kind of file gives that features are imported from.

Legend: N rows, V views, C×H×W maps; a vector of D numbers is a map of D×1×1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError

FEATURES = "features", "feats", "embeddings", "X", "x"
LABELS = "labels", "label", "targets", "y", "Y"
CLASSES, PATHS = ("classes", "class_names"), ("paths", "path", "names")
"""What arrays are called in files that hold several."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Features with their labels, to be read in order."""

    name: str
    """What messages call it."""
    files: Sequence[Path]
    """All that it is read from: their digests are part of the cache's identity."""
    shape: tuple[int, int, int, int, int]
    """(N, V, C, H, W)"""
    dtype: str
    """The type of the numbers there: float16, float32, float64 or bfloat16."""
    labels: Any
    """(N,) whole numbers or names, or (N, K) of 1, 0 and -1."""
    read: Callable[[range], NDArray[np.floating]]
    """(n, V, C, H, W) of some rows; bfloat16 as float32."""
    classes: Sequence[str] | None = None
    """Names of the classes, or None where `labels` has them, or nobody knows any."""
    paths: Sequence[str] | None = None
    """A name for each row, or None."""
    val_rows: int = 0
    """How many of the last rows are to be validated on."""


def map_shape(shape: Sequence[int], name: str) -> tuple[int, int, int, int, int]:
    """(N, V, C, H, W) of an array (N, D), (N, C, H, W) or (N, V, C, H, W). Raises: CacheError."""
    match tuple(shape):
        case (n, d):
            full = n, 1, d, 1, 1
        case (n, c, h, w):
            full = n, 1, c, h, w
        case (n, v, c, h, w):
            full = n, v, c, h, w
        case other:
            raise CacheError(
                f"{name}: features: expected the shape (N, D), (N, C, H, W) or (N, views, C, H, W), "
                f"found {other}"
            )
    if min(full) < 1:
        raise CacheError(f"{name}: features: expected at least one row of at least one number, found {shape}")
    return full


def chosen(keys: Sequence[str], wanted: Sequence[str], asked: str | None, flag: str, name: str) -> str:
    """The key that is asked for, or the first usual one. Raises: CacheError listing the keys there are."""
    found = [key for key in ([asked] if asked else wanted) if key in keys]
    if not found:
        what = repr(asked) if asked else f"one of {', '.join(wanted)}"
        raise CacheError(
            f"{name}: expected {what}, found {', '.join(map(str, keys)) or 'nothing'}; name it by {flag}"
        )
    return found[0]


def optional(keys: Mapping[str, Any], wanted: Sequence[str]) -> list[str] | None:
    """The texts under the first of some keys that is there; None without any."""
    return next(([str(text) for text in keys[key]] for key in wanted if key in keys), None)
