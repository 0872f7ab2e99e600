"""Where maps live while heads train, and how batches of them are made.

    in memory   as the head's inputs (normalised, cropped, folded), prepared once for all epochs, on the
                device; or as they are stored, in RAM, prepared batch by batch
    on disk     read in each epoch into bounded pools, and shuffled within each. Caches are often sorted by
                class, so a pool consists of short stretches from all over the file

In memory, the same seed gives the same batches either way.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cache import DTYPES
from pipeline.maps.parts import Part
from pipeline.maps.source import Rows, Source, to_tensor

STRETCH_BYTES = 1 << 20  # read in one go: long for a disk, short beside a pool, which then has all classes


class Batch(NamedTuple):
    """Examples on the device: inputs (B, ...), and labels (B,) int64 or (B, K) int8."""

    inputs: Tensor
    labels: Tensor

    def first(self, count: int) -> "Batch":
        """The first examples in the same memory; the batch itself where these are all."""
        return self if count == len(self.labels) else Batch(self.inputs[:count], self.labels[:count])


class Maps:
    """One part of a cache, in batches. A batch is good until the next one is asked for."""

    def __init__(self, source: Source, part: Part, drawn: int = 1) -> None:
        """`drawn`: how many views of an image there are to draw from, of which the first is the plain one."""
        self.source, self.part, self.drawn = source, part, drawn
        self.labels = torch.tensor(part.labels, device=source.device)
        self._on_gpu = source.device.type == "cuda"

    def new_batch(self, size: int) -> Batch:
        """Memory for a batch of `size` examples, or of all if they are fewer."""
        size = min(size, len(self.labels))
        return Batch(self.source.new_inputs(size), self.labels.new_empty((size, *self.labels.shape[1:])))

    def shuffled(self, memory: Batch, rng: np.random.Generator) -> Iterator[Batch]:
        """Every image once, in the order and the views that `rng` draws.

        A full batch is `memory` itself, filled anew each time; only the last can be smaller, a part of it.
        """
        raise NotImplementedError

    def in_order(self, size: int) -> Iterator[Batch]:
        """Every image's plain view, in the order of the rows."""
        raise NotImplementedError


class MapsInMemory(Maps):
    """All examples of a part, as inputs on the device (`prepared`), or in RAM as they are stored."""

    def __init__(self, source: Source, part: Part, drawn: int, name: str, prepared: bool = True) -> None:
        super().__init__(source, part, drawn)
        rows, views = np.repeat(part.rows, drawn), np.tile(np.arange(drawn), len(part.rows))
        self.prepared = prepared
        self.examples = source.new_inputs(len(rows)) if prepared else source.new_stored(len(rows))
        chunks = range(0, len(rows), source.chunk)
        for start in tqdm(chunks, desc=f"reading {name}", unit="chunk", leave=False, disable=None):
            chosen = slice(start, start + source.chunk)
            maps = source.take(rows[chosen], views[chosen])
            self.examples[chosen] = source.inputs(maps) if prepared else maps

    def shuffled(self, memory: Batch, rng: np.random.Generator) -> Iterator[Batch]:
        size, count = len(memory.labels), len(self.labels)
        order = rng.permutation(count)
        drawn = order * self.drawn + rng.integers(self.drawn, size=count)[order]
        images = torch.from_numpy(order).to(self.labels.device).split(size)
        examples = torch.from_numpy(drawn).to(self.examples.device).split(size)
        stored = None if self.prepared else self.source.new_stored(size, self._on_gpu)
        for chosen, example in zip(images, examples, strict=True):
            batch = memory.first(len(chosen))
            if stored is None:
                torch.index_select(self.examples, 0, example, out=batch.inputs)
            else:
                maps = torch.index_select(self.examples, 0, example, out=stored[: len(example)])
                batch.inputs.copy_(self.source.inputs(maps))
            torch.index_select(self.labels, 0, chosen, out=batch.labels)
            yield batch

    def in_order(self, size: int) -> Iterator[Batch]:
        plain = self.examples[:: self.drawn].split(size)
        inputs = plain if self.prepared else map(self.source.inputs, plain)
        return map(Batch, inputs, self.labels.split(size))


class MapsOnDisk(Maps):
    """Examples read in each epoch. A batch is drawn from one pool while a thread fills the next."""

    def __init__(self, source: Source, part: Part, drawn: int, memory_bytes: int) -> None:
        super().__init__(source, part, drawn)
        self._stretch = min(max(1, STRETCH_BYTES // source.stored_bytes(1)), source.cache.block_rows)
        self._per_pool = max(1, memory_bytes // (2 * source.stored_bytes(self._stretch)))

    def shuffled(self, memory: Batch, rng: np.random.Generator) -> Iterator[Batch]:
        """A batch may span two pools."""
        stretches = np.split(np.arange(len(self.labels)), self._ends(self.part.rows))
        stretches = [stretches[i] for i in rng.permutation(len(stretches))]
        starts, step = range(0, len(stretches), self._per_pool), self._per_pool
        groups = [rng.permutation(np.concatenate(stretches[i : i + step])) for i in starts]
        views = rng.integers(self.drawn, size=len(self.labels))
        pools = _ahead(partial(self._read, images, views[images]) for images in map(np.sort, groups))
        order = torch.from_numpy(np.concatenate(groups)).to(self.labels.device)
        size, filled, done = len(memory.labels), 0, 0
        stored = self.source.new_stored(size, self._on_gpu)
        for images in groups:
            pool, positions = next(pools), np.searchsorted(np.sort(images), images)
            for chosen in np.split(positions, range(size - filled, len(positions), size)):
                places = stored[filled : filled + len(chosen)]
                torch.index_select(pool, 0, torch.from_numpy(chosen), out=places)
                filled += len(chosen)
                if filled == size or done + filled == len(order):
                    batch = memory.first(filled)
                    batch.inputs.copy_(self.source.inputs(stored[:filled]))
                    torch.index_select(self.labels, 0, order[done : done + filled], out=batch.labels)
                    yield batch
                    filled, done = 0, done + filled
            del pool  # before the next one is asked for

    def in_order(self, size: int) -> Iterator[Batch]:
        images = np.split(np.arange(len(self.labels)), range(size, len(self.labels), size))
        maps = _ahead(partial(self._read, some, np.zeros_like(some)) for some in images)
        return map(Batch, map(self.source.inputs, maps), self.labels.split(size))

    def _read(self, images: Rows, views: Rows) -> Tensor:
        """Examples of images (positions in the part, ascending), stretch by stretch."""
        cache, rows = self.source.cache, self.part.rows[images]
        raw, ends = np.empty(self.source.stored_shape(len(images)), DTYPES[cache.dtype].raw), self._ends(rows)
        for start, end in zip([0, *ends], [*ends, len(rows)], strict=True):
            self.source.take(rows[start:end], views[start:end], out=raw[start:end])
        return to_tensor(raw, cache.dtype)

    def _ends(self, rows: Rows) -> Rows:
        """Positions at which ascending rows pass from one stretch of the file into another."""
        return np.flatnonzero(np.diff(rows // self._stretch)) + 1


def place_maps(source: Source, part: Part, drawn: int, name: str, on_device: int, in_ram: int) -> Maps:
    """Prepared, if it fits into `on_device` bytes, else as stored, in RAM if it fits into `in_ram` bytes."""
    inputs, stored = (count(len(part.rows) * drawn) for count in (source.input_bytes, source.stored_bytes))
    prepared = inputs <= on_device
    if not prepared and stored > in_ram:
        print(f"{name}: {stored / 1e6:,.0f} MB as stored, read from disk in each epoch")
        return MapsOnDisk(source, part, drawn, in_ram)
    where = f"prepared once, in the memory of the {source.device}" if prepared else "as stored, kept in RAM"
    print(f"{name}: {(inputs if prepared else stored) / 1e6:,.0f} MB, {where}")
    return MapsInMemory(source, part, drawn, name, prepared)


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
