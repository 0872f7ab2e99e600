"""A cache as the dataset of torch's DataLoader.

    DataLoader(FeatureCache("train.h5"), batch_size=512, shuffle=True, num_workers=2)

torch's own collation copies each map by itself, and a worker process sends every batch through new shared
memory, page by page; both take several times as long as reading. So torch, where it is loaded, which is never
done here, is told how a `Batch` becomes tensors: by one `take`. And a worker takes into memory that it lends
(lending.py). Where there is none it sends row numbers, and the process that wants the batch copies it from
pages that are in memory by then.
"""

import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache as once
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from cache.dtypes import DTYPES, Raw
from cache.errors import CacheError
from cache.lending import Borrower, Lender, Loan
from cache.rows import Rows

if TYPE_CHECKING:
    from cache.reader import FeatureCache

_COLLATION = "torch.utils.data._utils.collate"

_ALIVE: WeakValueDictionary[Any, "FeatureCache"] = WeakValueDictionary()
"""The caches of this process, by what tells them apart."""


def remember(cache: "FeatureCache", key: object) -> None:
    """Have batches that a worker sends read from this object, instead of opening the file for each."""
    _ALIVE[key] = cache


def values(cache: "FeatureCache", rows: NDArray[np.intp]) -> Rows:
    """The first view of some rows, and their labels, as arrays that belong to the caller."""
    return Rows(cache.decode(cache.take(rows)), cache.labels[rows])


def _read_into(cache: "FeatureCache", rows: NDArray[np.intp], out: Raw) -> None:
    """`values(cache, rows).features`, into an array of their kind."""
    if out.dtype == DTYPES[cache.dtype].raw:
        cache.take(rows, out=out)
    else:
        out[...] = values(cache, rows).features


class Batch(Sequence[Rows]):
    """Some rows of a cache, read when one is looked at: `batch[0]` is the first row, as of `cache[row]`."""

    def __init__(self, cache: "FeatureCache", rows: NDArray[np.intp]) -> None:
        self.cache, self.rows = cache, rows
        _teach_torch()

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Rows: ...
    @overload
    def __getitem__(self, index: slice) -> "Batch": ...
    def __getitem__(self, index: int | slice) -> "Rows | Batch":
        rows = self.rows[index]
        if isinstance(index, slice):
            return Batch(self.cache, rows)
        if _in_worker():  # which reads into memory that it lends
            return self.cache[rows]
        features, labels = self._values  # torch looks at the first row, and then collates all
        return Rows(features[index].copy(), labels[index] if labels.ndim > 1 else int(labels[index]))

    def __iter__(self) -> Iterator[Rows]:
        features, labels = self.values()
        return map(Rows, features, labels if labels.ndim > 1 else labels.tolist())

    def values(self) -> Rows:
        """All rows, as arrays that belong to the caller."""
        return self.__dict__.pop("_values", None) or values(self.cache, self.rows)

    @cached_property
    def _values(self) -> Rows:
        return values(self.cache, self.rows)


class Sent:
    """A batch of tensors in a worker process: made there when looked at, else where it is sent to."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tensors)

    def __getitem__(self, index: int) -> Any:
        return self._tensors[index]

    def __len__(self) -> int:
        return 2

    @property
    def features(self) -> Any:
        return self._tensors.features

    @property
    def labels(self) -> Any:
        return self._tensors.labels

    @cached_property
    def _tensors(self) -> Rows:
        return _tensors(self._batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self._batch.cache, self._batch.rows, _lent(self._batch))


@once
def _lender() -> Lender:
    return Lender()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lender.cache_clear)  # the pieces are the parent's


def _lent(batch: Batch) -> Loan | None:
    """The features of a batch in lent memory, or None where there is none, or they can't be read: then the
    process that gets the row numbers will say so. torch only prints what goes wrong here, and waits for ever.
    """
    lent = None
    try:
        kind = DTYPES[batch.cache.dtype].raw
        kind = kind if kind.kind == "f" else np.dtype(np.float32)
        if lent := _lender().lend((len(batch), *batch.cache.shape[2:]), kind):
            _read_into(batch.cache, batch.rows, lent[1])
            return lent[0]
        batch.cache.touch(batch.rows)  # so that the disk is waited for here
    except (CacheError, OSError, MemoryError):
        if lent:
            _lender().take_back(lent[0])
    return None


def _received(cache: "FeatureCache", rows: NDArray[np.intp], loan: Loan | None) -> Rows:
    torch, cache = sys.modules["torch"], _ALIVE.get(cache.token, cache)
    features = None if loan is None else _borrower(cache).look_at(loan)
    if features is None:
        return _tensors(Batch(cache, rows))
    return Rows(torch.from_numpy(features), torch.from_numpy(cache.labels[rows]))


def _borrower(cache: "FeatureCache") -> Borrower:
    """The pieces of memory that workers lent for this cache: they go with it."""
    return cache.__dict__.setdefault("_borrower", Borrower())


def _tensors(batch: Batch) -> Rows:
    return Rows(*map(sys.modules["torch"].from_numpy, batch.values()))


def _in_worker() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.utils.data.get_worker_info() is not None


def _teach_torch() -> None:
    """Tell torch's default collation, where it is loaded, what to do with rows: once is enough."""
    if known := getattr(sys.modules.get(_COLLATION), "default_collate_fn_map", None):
        known.setdefault(Rows, _collate)


def _collate(batch: Sequence[Rows], *, collate_fn_map: Any = None) -> Any:
    """Rows → one pair of tensors, as `default_collate` does."""
    module = sys.modules[_COLLATION]
    if not isinstance(batch, Batch):
        columns = zip(*batch, strict=True)
        return Rows(*(module.collate(column, collate_fn_map=collate_fn_map) for column in columns))
    return Sent(batch) if _in_worker() else _tensors(batch)
