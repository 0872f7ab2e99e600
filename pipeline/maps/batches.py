"""Where maps live while heads train, and how batches of them are made.

    prepared   what the head reads (normalised, cropped, folded), once for all epochs, on the device or in RAM
    streamed   what the cache stores, in a bounded pool, prepared batch by batch. A part that fits into the
               pool is read once; a larger one in runs of rows in random order, shuffled within the pool

While everything fits into memory, both give the same batches in the same order.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.maps.parts import Part
from pipeline.maps.source import CHUNK, Raw, Rows, Source

Batches = Iterator[tuple[Tensor, Tensor]]
RUN_BYTES = 1 << 20  # read in one go: long for a disk, short beside a pool, so that a pool holds all classes


class Maps(Protocol):
    """One part of a cache as batches of (inputs (B, ...), labels (B,)) on the device."""

    def batches(self, size: int, rng: np.random.Generator | None) -> Batches:
        """Every image once: in the order and the views that `rng` draws; without it as they lie, view 0.

        A batch is only good until the next one is asked for: its memory is used again.
        """
        ...


class PreparedMaps:
    """All examples of a part as the head's inputs, in the device's memory."""

    def __init__(self, source: Source, part: Part, drawn: int, name: str) -> None:
        self.drawn, self.labels = drawn, torch.tensor(part.labels, device=source.device)
        rows, views = np.repeat(part.rows, drawn), np.tile(np.arange(drawn), len(part.rows))
        chunks = range(0, len(rows), source.chunk)
        self.inputs = torch.empty(0)
        for start in tqdm(chunks, desc=f"preparing {name}", unit="chunk", leave=False, disable=None):
            chosen = slice(start, start + source.chunk)
            inputs = source.prepare(source.take(rows[chosen], views[chosen]))
            if not start:
                self.inputs = inputs.new_empty((len(rows), *inputs.shape[1:]))
            self.inputs[chosen] = inputs
        self._batch = self.inputs[:0]

    def batches(self, size: int, rng: np.random.Generator | None) -> Batches:
        if rng is None:
            plain = self.inputs[:: self.drawn]
            yield from zip(plain.split(size), self.labels.split(size), strict=True)
            return
        device, count = self.labels.device, len(self.labels)
        order = rng.permutation(count)
        views = rng.integers(self.drawn, size=count)[order]
        images, examples = (torch.from_numpy(i).to(device) for i in (order, order * self.drawn + views))
        labels = self.labels.index_select(0, images).split(size)
        if len(self._batch) < min(size, count):  # kept from epoch to epoch: a recorded step reads it in place
            self._batch = self.inputs.new_empty((min(size, count), *self.inputs.shape[1:]))
        for label, example in zip(labels, examples.split(size), strict=True):
            batch = self._batch[: len(example)]
            torch.index_select(self.inputs, 0, example, out=batch)
            yield batch, label


class StreamedMaps:
    """Examples as they are stored. Of two pools one is drawn from while a thread fills the other.

    Caches are often sorted by class; a pool is therefore filled with many short runs from all over the file.
    """

    def __init__(self, source: Source, part: Part, drawn: int, memory_bytes: int) -> None:
        self.source, self.part, self.drawn = source, part, drawn
        self.labels = torch.tensor(part.labels, device=source.device)
        self.whole = source.raw_bytes(len(part.rows) * drawn) <= memory_bytes
        self._kept: Raw | None = None
        self._run_rows = min(max(1, RUN_BYTES // source.raw_bytes(1)), source.cache.block_rows)
        self._runs = np.split(np.arange(len(part.rows)), _changes(part.rows // self._run_rows))
        self._runs_per_pool = max(1, memory_bytes // (2 * source.raw_bytes(self._run_rows)))

    def batches(self, size: int, rng: np.random.Generator | None) -> Batches:
        groups, views = self._plan(rng)
        order = torch.from_numpy(np.concatenate(groups)).to(self.labels.device)
        labels = self.labels.index_select(0, order).split(size)
        yield from zip(map(self.source.prepare, self._gathered(size, groups, views)), labels, strict=True)

    def _plan(self, rng: np.random.Generator | None) -> tuple[list[Rows], Rows]:
        """Images (positions in the part) pool by pool, and the view of each image in the part."""
        count = len(self.part.rows)
        if rng is None:
            every = np.arange(count)
            pools = [every] if self.whole else np.split(every, range(CHUNK, count, CHUNK))
            return pools, np.zeros(count, np.int64)
        if self.whole:
            return [rng.permutation(count)], rng.integers(self.drawn, size=count)
        runs, step = [self._runs[i] for i in rng.permutation(len(self._runs))], self._runs_per_pool
        groups = [np.concatenate(runs[i : i + step]) for i in range(0, len(runs), step)]
        return [rng.permutation(group) for group in groups], rng.integers(self.drawn, size=count)

    def _gathered(self, size: int, groups: list[Rows], views: Rows) -> Iterator[Raw]:
        """Batches of examples, in one array that is used again. A batch may span two pools."""
        filled, batch = 0, np.empty(0)
        for pool, order in self._pools(groups, views):
            if not batch.size:
                batch = self._new_batch(min(size, len(self.part.rows)), pool)
            start = 0
            while start < len(order):
                count = min(size - filled, len(order) - start)
                chosen = order[start : start + count]
                np.take(pool, chosen, axis=0, out=batch[filled : filled + count], mode="clip")
                filled, start = filled + count, start + count
                if filled == size:
                    yield batch
                    filled = 0
            del pool  # before the next one is asked for
        if filled:
            yield batch[:filled]

    def _new_batch(self, size: int, pool: Raw) -> Raw:
        """Room for a batch, in memory that a GPU can copy from directly."""
        dtype, pinned = torch.from_numpy(pool[:0]).dtype, self.source.device.type == "cuda"
        return torch.empty((size, *pool.shape[1:]), dtype=dtype, pin_memory=pinned).numpy()

    def _pools(self, groups: list[Rows], views: Rows) -> Iterator[tuple[Raw, Rows]]:
        """(examples in memory, the order to take them in) for each group of images."""
        if self.whole:
            if self._kept is None:
                every = np.arange(len(self.part.rows))
                self._kept = self._read(
                    np.repeat(every, self.drawn), np.tile(np.arange(self.drawn), len(every))
                )
            yield self._kept, groups[0] * self.drawn + views[groups[0]]
            return
        with ThreadPoolExecutor(1) as reader:
            ahead = None
            for i, group in enumerate(groups):
                images = np.sort(group)
                pool = ahead.result() if ahead else self._read(images, views[images])
                if i + 1 < len(groups):
                    following = np.sort(groups[i + 1])
                    ahead = reader.submit(self._read, following, views[following])
                yield pool, np.searchsorted(images, group)
                del pool

    def _read(self, images: Rows, views: Rows) -> Raw:
        """Examples of the part, run by run."""
        cache = self.source.cache
        out = np.empty((len(images), self.source.head.views, *cache.shape[2:]), self.source.raw_dtype)
        rows = self.part.rows[images]
        ends = _changes(rows // self._run_rows)
        for start, end in zip([0, *ends], [*ends, len(rows)], strict=True):
            self.source.take(rows[start:end], views[start:end], out=out[start:end])
        return out


def _changes(values: Rows) -> Rows:
    """Where a value differs from the one before."""
    return np.flatnonzero(np.diff(values)) + 1


def place_maps(source: Source, part: Part, drawn: int, name: str, on_device: int, in_ram: int) -> Maps:
    """Prepared, if that fits into `on_device` bytes, else streamed with `in_ram` bytes. Prints which."""
    count = len(part.rows) * drawn
    needed = source.prepared_bytes(count)
    if needed <= on_device:
        print(f"{name}: {needed / 1e6:,.0f} MB, prepared once, in the memory of the {source.device}")
        return PreparedMaps(source, part, drawn, name)
    streamed = StreamedMaps(source, part, drawn, in_ram)
    where = "kept in RAM" if streamed.whole else "read from disk in each epoch"
    print(f"{name}: {source.raw_bytes(count) / 1e6:,.0f} MB as stored, {where}")
    return streamed
