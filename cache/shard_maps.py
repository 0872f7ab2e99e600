"""The maps of several files as one: what `take` gathers from, and pages that are looked at beforehand.

Files are mapped when a row of theirs is first asked for. They share one range of addresses, so that a batch
is gathered in one go whatever files it lies in; where the system can't do that (its pages are larger than
those of the format, or addresses are short), each file is mapped and gathered from on its own.
"""

import mmap
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cache.address_range import AddressRange, slots
from cache.dtypes import Raw
from cache.format import BLOCK_ROWS, FEATURES, block_count
from cache.gather import gather
from cache.one_file import map_features, touch
from cache.shard_file import ShardFile

HELD = 256
"""Of so many files or fewer all are held open once mapped: asking whether they changed is quick so."""
CHANGE_SECONDS = 0.02
"""How long after they were looked at files are taken to be unchanged: asking 64 of them takes a tenth of the
time of a batch."""


class ShardMaps:
    """files: in order. shape: (V, C, H, W)."""

    def __init__(self, files: list[ShardFile], shape: tuple[int, ...], raw: np.dtype) -> None:
        self._files, self._shape, self._raw = files, shape, raw
        self.row_bytes = int(np.prod(shape)) * raw.itemsize
        self._counts = [len(file.shard.rows) for file in files]
        self._begins = np.array([file.shard.rows.start for file in files], np.int64)
        self._of_block = None if (self._begins % BLOCK_ROWS).any() else self._blocks()  # a third of the time
        self._offsets = [file.shard.nbytes - len(file.shard.rows) * self.row_bytes for file in files]
        self._slots = slots(self._counts, self._offsets, self.row_bytes)
        self._range: AddressRange | None = None
        self._whole: AddressRange | None = None
        self._alone = dict[int, Raw]()
        self._mapped, self._due = np.zeros(len(files), np.bool_), 0.0
        self._shifts: NDArray[np.int64] | None = None

    def take(self, index: NDArray[np.intp], out: Raw) -> None:
        """out[i] ← item index[i], as of `Store.take`."""
        items = out.reshape(index.size, -1)
        if self._range and self._shifts is not None:
            per_row = self.row_bytes * index.size // items.nbytes
            shifted = index + self._shifts[index // (BLOCK_ROWS * per_row)] * per_row
            gather(self._range.rows.reshape(-1, items.shape[1]), shifted, items)
            return self._refuse_changed()
        numbers, per_row = self._numbers(index, items.nbytes // index.size)
        touched = np.flatnonzero(np.bincount(numbers))
        if (whole := self._spanning(touched)) and self._slots is not None:
            shifted = index + ((self._slots - self._begins) * per_row)[numbers]
            gather(whole.rows.reshape(-1, items.shape[1]), shifted, items)
        else:
            for number, where, inside in self.shared_out(index, items.nbytes // index.size):
                items[where] = self._map_alone(number).reshape(-1, items.shape[1])[inside]
        self._refuse_changed(touched)

    def touch(self, index: NDArray[np.intp], nbytes: int) -> None:
        """Look at a byte of each page of some items of so many bytes."""
        for number, _, inside in self.shared_out(index, nbytes):
            touch(self._rows_of(number), inside, nbytes)

    def whole(self) -> Raw | None:
        """All rows, mapped one behind the other; None where they don't lie on pages so."""
        if self._whole is None:
            places = self._begins * self.row_bytes - self._offsets
            if (places % mmap.PAGESIZE).any() or any(offset % mmap.PAGESIZE for offset in self._offsets):
                return None
            try:
                whole = AddressRange(sum(self._counts), self._shape, self._raw)
                for number, begin in enumerate(self._begins.tolist()):
                    self._map(whole, number, begin)
            except OSError:
                return None
            self._whole = whole
        return self._whole.rows

    def release(self) -> None:
        """Let go of all maps."""
        self._range = self._whole = self._shifts = None
        self._alone.clear()
        self._mapped[:] = False

    def shared_out(
        self, index: NDArray[np.intp], nbytes: int
    ) -> Iterator[tuple[int, NDArray[np.intp], NDArray[np.intp]]]:
        """For each file that holds some of the items of so many bytes: which of them, which of its own."""
        numbers, per_row = self._numbers(index, nbytes)
        order = np.argsort(numbers, kind="stable")
        bounds = np.flatnonzero(np.diff(numbers[order], prepend=-1, append=len(self._files)))
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            where = order[begin:end]
            number = int(numbers[where[0]])
            yield number, where, index[where] - self._begins[number] * per_row

    def _numbers(self, index: NDArray[np.intp], nbytes: int) -> tuple[NDArray[np.intp], int]:
        """The file of each item of so many bytes, and how many such are in a row."""
        per_row = self.row_bytes // nbytes
        places = index // per_row if per_row > 1 else index
        if self._of_block is not None:
            return self._of_block[places // BLOCK_ROWS], per_row
        return np.searchsorted(self._begins, places, side="right") - 1, per_row

    def _refuse_changed(self, touched: NDArray[np.intp] | None = None) -> None:
        """Raises: CacheError when somebody wrote into a file since it was opened.

        touched: the files that were just read; None: all. Few files are all looked at, now and then; of very
        many those that were just read, each time.
        """
        few, now = len(self._files) <= HELD, time.monotonic()
        if few and now < self._due:
            return
        self._due = now + CHANGE_SECONDS
        files = self._files
        if touched is not None:
            every = np.union1d(touched, np.flatnonzero(self._mapped)) if few else touched
            files = [files[number] for number in every.tolist()]
        for file in files:
            file.refuse_changed()

    def _spanning(self, numbers: NDArray[np.intp]) -> AddressRange | None:
        """The range of addresses, in which these files are mapped; None where there can't be one."""
        if self._slots is None:
            return None
        try:
            if self._range is None:
                self._range = AddressRange(int(self._slots[-1]) + self._counts[-1], self._shape, self._raw)
            for number in numbers[~self._mapped[numbers]].tolist():
                self._map(self._range, number, int(self._slots[number]))
                self._mapped[number] = True
        except OSError:
            self._slots = self._range = None
            return None
        if self._of_block is not None and len(self._files) <= HELD and self._mapped.all():
            self._shifts = (self._slots - self._begins)[self._of_block]
        return self._range

    def _map(self, whole: AddressRange, number: int, slot: int) -> None:
        """Map a file to its place. Raises: OSError."""
        file = self._files[number]
        if len(self._files) <= HELD:
            file.hold()
        offset = file.layout[FEATURES].offset
        with file.opened() as fd:
            whole.map(fd, offset, slot, self._counts[number])

    def _blocks(self) -> NDArray[np.intp]:
        """The file of each block of rows, where files begin with one."""
        return np.repeat(np.arange(len(self._counts)), [block_count(count) for count in self._counts])

    def _rows_of(self, number: int) -> Raw:
        if (whole := self._spanning(np.array([number]))) and self._slots is not None:
            return whole.rows[self._slots[number] :][: self._counts[number]]
        return self._map_alone(number)

    def _map_alone(self, number: int) -> Raw:
        if number not in self._alone:
            file = self._files[number]
            with file.opened() as fd:
                self._alone[number] = map_features(fd, file.layout)
        return self._alone[number]
