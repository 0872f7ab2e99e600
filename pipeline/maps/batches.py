"""Where maps live while heads train, and how batches of them are made.

    in memory   as the head's inputs (normalised, cropped, folded), prepared once for all epochs, on the
                device; or as they are stored, in RAM, prepared batch by batch
    on disk     read in each epoch, row by row, in the order of the batches

The same seed gives the same batches wherever the maps are, so that results don't depend on the memory that
happens to be free. The order is drawn over the whole part: caches are often sorted by class. A disk that is
asked for many rows at a time gives single ones at a third of its speed or more (not a spinning one).
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.maps.parts import Part
from pipeline.maps.source import Rows, Source
from pipeline.progress import over, say

PORTION_BYTES = 32 << 20  # read while batches are made of as much: enough requests for a disk


class Batch(NamedTuple):
    """Examples on the device: inputs (B, ...), and labels (B,) int64 or (B, K) int8; for cross-validation the
    folds (B,) int64 that they are in."""

    inputs: Tensor
    labels: Tensor
    folds: Tensor | None = None

    def first(self, count: int) -> "Batch":
        """The first examples in the same memory; the batch itself where these are all."""
        if count == len(self.labels):
            return self
        folds = None if self.folds is None else self.folds[:count]
        return Batch(self.inputs[:count], self.labels[:count], folds)


class Maps:
    """One part of a cache, in batches. A batch is good until the next one is asked for."""

    nbytes: int
    """Memory that it holds, or may take in a pass."""

    def __init__(self, source: Source, part: Part, drawn: int = 1) -> None:
        """`drawn`: how many views of an image there are to draw from, of which the first is the plain one."""
        self.source, self.part, self.drawn = source, part, drawn
        self.labels = torch.tensor(part.labels, device=source.device)
        self.folds = None if part.folds is None else torch.tensor(part.folds, device=source.device)
        self._on_gpu = source.device.type == "cuda"

    def new_batch(self, size: int) -> Batch:
        """Memory for a batch of `size` examples, or of all if they are fewer."""
        size = min(size, len(self.labels))
        folds = None if self.folds is None else self.folds.new_empty(size)
        labels = self.labels.new_empty((size, *self.labels.shape[1:]))
        return Batch(self.source.new_inputs(size), labels, folds)

    def shuffled(self, memory: Batch, rng: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        """Every image once, in the order and the views that `rng` draws, without the first `skip` batches.

        A full batch is `memory` itself, filled anew each time; only the last can be smaller, a part of it.
        """
        raise NotImplementedError

    def in_order(self, size: int) -> Iterator[Batch]:
        """Every image's plain view, in the order of the rows: `size` at a time, fewer of large ones."""
        raise NotImplementedError

    def _tell(self, batch: Batch, images: Tensor) -> Batch:
        """Fill in what is known of these images."""
        torch.index_select(self.labels, 0, images, out=batch.labels)
        if self.folds is not None and batch.folds is not None:
            torch.index_select(self.folds, 0, images, out=batch.folds)
        return batch

    def _plain(self, inputs: Iterable[Tensor], size: int) -> Iterator[Batch]:
        """Batches in the order of the rows, from their inputs."""
        folds = itertools.repeat(None) if self.folds is None else self.folds.split(size)
        return map(Batch, inputs, self.labels.split(size), folds)

    def _inputs(self, stored: Iterable[Tensor], size: int) -> Iterator[Tensor]:
        """The inputs of `size` maps at a time as they are stored, each time in the same memory."""
        memory = self.source.new_inputs(min(size, len(self.labels)))
        return (self.source.inputs(maps, memory[: len(maps)]) for maps in stored)

    def _drawn(self, rng: np.random.Generator, skip: int) -> tuple[Rows, Rows]:
        """The images of an epoch, and the view that is drawn of each, but for the first `skip`."""
        count = len(self.labels)
        order = rng.permutation(count)
        return order[skip:], rng.integers(self.drawn, size=count)[order[skip:]]


class MapsInMemory(Maps):
    """All examples of a part, as inputs on the device (`prepared`), or in RAM as they are stored."""

    def __init__(self, source: Source, part: Part, drawn: int, name: str, prepared: bool = True) -> None:
        super().__init__(source, part, drawn)
        rows, views = np.repeat(part.rows, drawn), np.tile(np.arange(drawn), len(part.rows))
        self.prepared = prepared
        self.examples = source.new_inputs(len(rows)) if prepared else source.new_stored(len(rows))
        self.nbytes = self.examples.nbytes
        chunks = range(0, len(rows), source.chunk)
        for start in over(chunks, f"reading {name}", "chunks"):
            chosen = slice(start, start + chunks.step)
            maps = source.take(rows[chosen], views[chosen])
            if prepared:
                source.inputs(maps, self.examples[chosen])
            else:
                self.examples[chosen] = maps

    def shuffled(self, memory: Batch, rng: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        size = len(memory.labels)
        order, views = self._drawn(rng, skip * size)
        if not order.size:  # which torch would split into one empty batch
            return
        images = torch.from_numpy(order).to(self.labels.device).split(size)
        examples = torch.from_numpy(order * self.drawn + views).to(self.examples.device).split(size)
        stored = None if self.prepared else self.source.new_stored(size, self._on_gpu)
        for chosen, example in zip(images, examples, strict=True):
            batch = memory.first(len(chosen))
            if stored is None:
                torch.index_select(self.examples, 0, example, out=batch.inputs)
            else:
                maps = torch.index_select(self.examples, 0, example, out=stored[: len(example)])
                self.source.inputs(maps, batch.inputs)
            yield self._tell(batch, chosen)

    def in_order(self, size: int) -> Iterator[Batch]:
        size = min(size, self.source.chunk)
        plain = self.examples[:: self.drawn].split(size)
        return self._plain(plain if self.prepared else self._inputs(plain, size), size)


class MapsOnDisk(Maps):
    """Examples read in each epoch, a portion while batches are made of the one before."""

    def __init__(self, source: Source, part: Part, drawn: int, memory_bytes: int) -> None:
        """`memory_bytes`: for both portions. They hold a batch each at least."""
        super().__init__(source, part, drawn)
        self.nbytes = min(memory_bytes, 2 * PORTION_BYTES)

    def shuffled(self, memory: Batch, rng: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        size = len(memory.labels)
        order, views = self._drawn(rng, skip * size)
        for images, maps in self._read(order, views, size):
            batch = memory.first(len(images))
            self.source.inputs(maps, batch.inputs)
            yield self._tell(batch, images.to(self.labels.device))

    def in_order(self, size: int) -> Iterator[Batch]:
        size, order = min(size, self.source.chunk), np.arange(len(self.labels))
        stored = (maps for _, maps in self._read(order, np.zeros_like(order), size))
        return self._plain(self._inputs(stored, size), size)

    def _read(self, order: Rows, views: Rows, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images, `size` at a time, and their maps as they are stored."""
        batches = max(1, self.nbytes // (2 * self.source.stored_bytes(size)))
        step = size * min(batches, -(-len(order) // size))
        portions = [self.source.new_stored(min(step, len(order)), self._on_gpu) for _ in range(2)]
        starts = range(0, len(order), step)
        rows = (self.part.rows[order[i : i + step]] for i in starts)
        drawn = (views[i : i + step] for i in starts)
        outs = (portions[k % 2][: len(order) - i] for k, i in enumerate(starts))
        reads = (partial(self.source.read, *each) for each in zip(rows, drawn, outs, strict=True))
        for start, maps in zip(starts, _ahead(reads), strict=True):
            images = torch.from_numpy(order[start : start + step])
            yield from zip(images.split(size), maps.split(size), strict=True)


def place_maps(source: Source, part: Part, drawn: int, name: str, free: dict[str, int]) -> Maps:
    """Prepared, if they fit into what is `free` on the device, else as stored in RAM, else read from disk.

    `free` holds bytes by type of device, "cpu" for RAM; the maps' share is taken away.
    """
    inputs, stored = (count(len(part.rows) * drawn) for count in (source.input_bytes, source.stored_bytes))
    where, device = "cpu", source.device.type
    if inputs <= free[device]:
        say(f"{name}: {inputs / 1e6:,.0f} MB, prepared once, in the memory of the {source.device}")
        maps, where = MapsInMemory(source, part, drawn, name), device
    elif stored <= free[where]:
        say(f"{name}: {stored / 1e6:,.0f} MB, as stored, kept in RAM")
        maps = MapsInMemory(source, part, drawn, name, prepared=False)
    else:
        say(f"{name}: {stored / 1e6:,.0f} MB as stored, read from disk in each epoch")
        maps = MapsOnDisk(source, part, drawn, free[where])
    free[where] -= maps.nbytes
    return maps


def _ahead(reads: Iterable[Callable[[], Tensor]]) -> Iterator[Tensor]:
    """What each call gives, in order. While the caller is busy with one, a thread makes the next."""
    with ThreadPoolExecutor(1) as reader:
        ahead = None
        for read in reads:
            following = reader.submit(read)
            if ahead:
                yield ahead.result()
            ahead = following
        if ahead:
            yield ahead.result()
