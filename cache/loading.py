"""A cache as the dataset of torch's DataLoader.

    DataLoader(FeatureCache("train.h5"), batch_size=512, shuffle=True, num_workers=2)

torch's own collation copies each map by itself, and a worker process sends every batch through new shared
memory, page by page; both take several times as long as reading. So torch, where it is loaded, which is never
done here, is told how a `Batch` becomes tensors: by one `take`. And a worker sends row numbers: it waits for
the disk, and the process that wants the batch copies it from the pages that are in memory by then.
"""

import sys
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from cache.dtypes import DTYPES
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
    raw = cache.take(rows)
    features = raw if raw.dtype.kind == "f" else DTYPES[cache.dtype].decode(raw)
    return Rows(features, cache.labels[rows])


class Batch(Sequence[Rows]):
    """Some rows of a cache, read when they are looked at: `batch[0]` is the first row, as of `cache[row]`."""

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
        return Batch(self.cache, rows) if isinstance(index, slice) else self.cache[rows]

    def __iter__(self) -> Iterator[Rows]:
        features, labels = values(self.cache, self.rows)
        return map(Rows, features, labels if labels.ndim > 1 else labels.tolist())


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
        return _received, (self._batch.cache, self._batch.rows)


def _received(cache: "FeatureCache", rows: NDArray[np.intp]) -> Rows:
    return _tensors(Batch(_ALIVE.get(cache.token, cache), rows))


def _tensors(batch: Batch) -> Rows:
    torch = sys.modules["torch"]
    return Rows(*map(torch.from_numpy, values(batch.cache, batch.rows)))


def _teach_torch() -> None:
    """Tell torch's default collation, where it is loaded, what to do with rows: once is enough."""
    if known := getattr(sys.modules.get(_COLLATION), "default_collate_fn_map", None):
        known.setdefault(Rows, _collate)


def _collate(batch: Sequence[Rows], *, collate_fn_map: Any = None) -> Any:
    """Rows → one pair of tensors, as `default_collate` does."""
    torch, module = sys.modules["torch"], sys.modules[_COLLATION]
    if not isinstance(batch, Batch):
        columns = zip(*batch, strict=True)
        return Rows(*(module.collate(column, collate_fn_map=collate_fn_map) for column in columns))
    if torch.utils.data.get_worker_info() is None:
        return _tensors(batch)
    batch.cache.touch(batch.rows)
    return Sent(batch)
