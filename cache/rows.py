"""Rows of a cache as users of sequences ask for them, and what they get."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache.dtypes import Raw

Index = Any
"""An integer, a slice, a list or array of integers, or a mask of N booleans, as numpy takes them."""


Views = int | slice | NDArray[Any] | None
"""One view, some, one for each row (n,), or all of them."""


class Rows(NamedTuple):
    """Feature maps and labels, of one row or of n; in a batch of torch's DataLoader both are tensors."""

    features: Raw
    """(C, H, W), of several rows (n, C, H, W): float16 or float32, which bfloat16 and int8 become."""
    labels: Any
    """An integer, of several rows (n,) int64; multi-label (K,) and (n, K) int8."""


if TYPE_CHECKING:
    from torch.utils.data import Dataset

    class TorchDataset(Dataset[Rows]):
        """What a type checker is to take a cache for, so that it lets DataLoader have one."""
else:
    TorchDataset = object


def checked(rows: ArrayLike, count: int, file: str) -> NDArray[np.intp]:
    """Row numbers from 0 to count - 1, one-dimensional. Raises: IndexError naming the file, on any other."""
    index = np.asarray(rows)
    if index.shape == (0,):
        return index.astype(np.intp)
    if index.ndim == 1 and index.dtype.kind in "iu":
        index = index.astype(np.intp, copy=False)
        if np.maximum.reduce(index.view(np.uintp)) < count:  # where -1 is the largest number
            return index
    raise IndexError(f"{file}: rows: expected a list of integers from 0 to {count - 1}")


def indexed(index: Index, count: int, file: str) -> NDArray[np.intp]:
    """The row numbers that an index means: (n,), or () for an integer.

    Raises: IndexError naming the file, when there are no such rows.
    """
    if isinstance(index, slice):
        return np.arange(*index.indices(count))
    given = np.asarray(index)
    if given.dtype == np.bool_ and given.shape == (count,):
        return np.flatnonzero(given)
    rows = given
    if given.dtype.kind in "iu":
        rows = given.astype(np.intp, copy=False)
        rows = np.where(rows < 0, rows + count, rows)
    return checked(rows.reshape(1) if rows.ndim == 0 else rows, count, file).reshape(rows.shape)


def places(
    index: NDArray[np.intp], view: Views, shape: tuple[int, ...], raw: np.dtype, out: Raw | None
) -> tuple[NDArray[np.intp], Raw]:
    """What `FeatureCache.take` gathers: positions of single maps, or of all maps of a row, and where they go.

    shape: (N, V, C, H, W) of the cache. raw: its numbers. Raises: ValueError when `out` doesn't fit.
    """
    _, views, *map_shape = shape
    view = slice(None) if view is None else view
    if isinstance(view, slice) and range(views)[view] == range(views):
        wanted = (index.size, views, *map_shape)
    else:
        # One view of every image isn't contiguous, and np.take would copy it all; rows × views is.
        index = index[:, None] if isinstance(view, slice) else index
        index = index * views + np.arange(views)[view]
        index, wanted = index.reshape(-1), (*index.shape, *map_shape)
    if out is None:
        out = np.empty(wanted, raw)
    elif out.shape != wanted or out.dtype != raw or not out.flags.c_contiguous:
        raise ValueError(f"out: expected a contiguous {raw} array of shape {wanted}")
    return index, out
