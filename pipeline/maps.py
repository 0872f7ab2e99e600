"""Where maps live while heads train, and how batches of them are made.

    prepared   what the head reads (normalised, cropped, folded), once for all epochs, on the device or in RAM
    streamed   what the cache stores, in a bounded pool, prepared batch by batch. A part that fits into the
               pool is read once; a larger one block by block in random order, shuffled within the pool

A cache is a flat list of examples: one per image, or, when it holds augmented views, one per image and view,
of which an epoch draws one for each image. While everything fits into memory, both give the same batches.

Shapes: B examples of a batch, V views that the head sees at once, C×H×W cells of a map.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from cache import FeatureCache
from pipeline.errors import ConfigError
from pipeline.heads.base import Head
from pipeline.labels import Part
from pipeline.normaliser import Normaliser

Rows = NDArray[np.int64]
Raw = NDArray[np.generic]
Batches = Iterator[tuple[Tensor, Tensor]]
SAMPLE = 8192  # images that the normaliser learns from


class Maps(Protocol):
    """One part of a cache as batches of (inputs (B, ...), labels (B,)) on the device."""

    place: str  # where they live, for the plan

    def batches(self, size: int, rng: np.random.Generator | None) -> Batches:
        """Every image once: in the order and the views that `rng` draws; without it as they lie, view 0.

        A batch is only good until the next one is asked for: its memory is used again.
        """
        ...


class Source(NamedTuple):
    """A cache and what a head reads of it."""

    cache: FeatureCache
    head: Head
    normaliser: Normaliser
    dtype: torch.dtype
    device: torch.device
    verify: bool

    @property
    def drawn(self) -> int:
        """How many examples an epoch has to draw from for each image."""
        augmented = str(self.cache.identity.get("views")).startswith("augment")
        return self.cache.shape[1] if augmented else 1

    def take(self, rows: Rows, views: Rows | int = 0, out: Raw | None = None) -> Raw:
        """(n, V, C, H, W) maps of these rows in the storage dtype; which of the drawn views for each."""
        _, stored, *map_shape = self.cache.shape
        if self.verify:
            self.cache.verify(rows)
        examples = self.cache.features.reshape(-1, self.head.views, *map_shape)
        return np.take(examples, rows * (stored // self.head.views) + views, axis=0, out=out, mode="clip")

    def to_tensor(self, raw: Raw) -> Tensor:
        """The same memory; bfloat16 comes as its bits."""
        maps = torch.from_numpy(raw)
        return maps.view(torch.bfloat16) if self.cache.dtype == "bfloat16" else maps

    def prepare(self, raw: Raw) -> Tensor:
        """(B, V, C, H, W) in the storage dtype → the head's inputs (B, ...) on the device."""
        return self.head.prepare(self.normaliser(self.to_tensor(raw).to(self.device))).to(self.dtype)

    def fit_normaliser(self, rows: Rows) -> None:
        """From a sample spread evenly over these rows, as the images are (view 0)."""
        picked = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64))]
        chunks = np.array_split(picked, -(-len(picked) // 1024))
        self.normaliser.fit(self.to_tensor(self.take(chunk)[:, 0]) for chunk in chunks)

    def prepared_bytes(self, examples: int) -> int:
        """Memory that `examples` take when prepared."""
        with torch.device("meta"):
            maps = torch.empty((1, self.head.views, *self.cache.shape[2:]))
            return examples * self.head.prepare(maps).numel() * self.dtype.itemsize

    def raw_bytes(self, examples: int) -> int:
        """Memory that `examples` take as they are stored."""
        return examples * self.head.views * self.cache.features[0, 0].nbytes


def check_views(cache: FeatureCache, head: Head) -> None:
    """Raises: ConfigError when the head looks at a mirrored image's map and the cache has none."""
    views = cache.identity.get("views")
    if head.views > 1 and views != "mirror":
        raise ConfigError(
            f"--crops: ten-image needs a cache made with --views mirror, {cache.path} was made with {views}"
        )


class PreparedMaps:
    """All examples of a part as the head's inputs, in the device's memory."""

    def __init__(self, source: Source, part: Part, drawn: int, name: str) -> None:
        self.place = "on the GPU, prepared" if source.device.type == "cuda" else "in RAM, prepared"
        self.drawn, self.labels = drawn, torch.tensor(part.labels, device=source.device)
        rows, views = np.repeat(part.rows, drawn), np.tile(np.arange(drawn), len(part.rows))
        chunks = range(0, len(rows), source.cache.block_rows)
        self.inputs = torch.empty(0)
        for start in tqdm(chunks, desc=f"preparing {name}", unit="block", leave=False, disable=None):
            chosen = slice(start, start + source.cache.block_rows)
            inputs = source.prepare(source.take(rows[chosen], views[chosen]))
            if not start:
                self.inputs = inputs.new_empty((len(rows), *inputs.shape[1:]))
            self.inputs[chosen] = inputs

    def batches(self, size: int, rng: np.random.Generator | None) -> Batches:
        if rng is None:
            plain = self.inputs[:: self.drawn]
            yield from zip(plain.split(size), self.labels.split(size), strict=True)
            return
        device, count = self.labels.device, len(self.labels)
        order = rng.permutation(count)
        views = rng.integers(self.drawn, size=count)[order]
        images, examples = (torch.from_numpy(i).to(device) for i in (order, order * self.drawn + views))
        inputs = self.inputs.new_empty((min(size, count), *self.inputs.shape[1:]))
        for image, example in zip(images.split(size), examples.split(size), strict=True):
            batch = inputs[: len(example)]
            torch.index_select(self.inputs, 0, example, out=batch)
            yield batch, self.labels.index_select(0, image)


class StreamedMaps:
    """Examples as they are stored. Of two pools one is drawn from while a thread fills the other."""

    def __init__(self, source: Source, part: Part, drawn: int, memory_bytes: int) -> None:
        self.source, self.part, self.drawn = source, part, drawn
        self.labels = torch.tensor(part.labels, device=source.device)
        self.whole = source.raw_bytes(len(part.rows) * drawn) <= memory_bytes
        self.place = "in RAM, as stored" if self.whole else "on disk, shuffled in blocks"
        self._kept: Raw | None = None
        block_of = part.rows // source.cache.block_rows
        self._blocks = np.split(np.arange(len(part.rows)), np.flatnonzero(np.diff(block_of)) + 1)
        self._pool_blocks = max(1, int(memory_bytes // (2 * source.raw_bytes(source.cache.block_rows))))

    def batches(self, size: int, rng: np.random.Generator | None) -> Batches:
        groups, views = self._plan(rng)
        order = torch.from_numpy(np.concatenate(groups)).to(self.labels.device)
        labels = self.labels.index_select(0, order).split(size)
        yield from zip(map(self.source.prepare, self._gathered(size, groups, views)), labels, strict=True)

    def _plan(self, rng: np.random.Generator | None) -> tuple[list[Rows], Rows]:
        """Images (positions in the part) pool by pool, and the view of each image in the part."""
        count, blocks = len(self.part.rows), self._blocks
        if self.whole:
            order = np.arange(count) if rng is None else rng.permutation(count)
            return [order], np.zeros(count, np.int64) if rng is None else rng.integers(self.drawn, size=count)
        if rng is not None:
            blocks = [blocks[i] for i in rng.permutation(len(blocks))]
        step = self._pool_blocks
        groups = [np.concatenate(blocks[i : i + step]) for i in range(0, len(blocks), step)]
        if rng is None:
            return groups, np.zeros(count, np.int64)
        return [rng.permutation(group) for group in groups], rng.integers(self.drawn, size=count)

    def _gathered(self, size: int, groups: list[Rows], views: Rows) -> Iterator[Raw]:
        """Batches of examples, in one array that is used again. A batch may span two pools."""
        filled, batch = 0, np.empty(0)
        for pool, order in self._pools(groups, views):
            if not batch.size:
                batch = np.empty((min(size, len(self.part.rows)), *pool.shape[1:]), pool.dtype)
            start = 0
            while start < len(order):
                count = min(size - filled, len(order) - start)
                chosen = order[start : start + count]
                np.take(pool, chosen, axis=0, out=batch[filled : filled + count], mode="clip")
                filled, start = filled + count, start + count
                if filled == size:
                    yield batch
                    filled = 0
        if filled:
            yield batch[:filled]

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
        """Examples of the part, block by block; the mapped pages are let go of after each."""
        cache = self.source.cache
        out = np.empty((len(images), self.source.head.views, *cache.shape[2:]), cache.features.dtype)
        rows = self.part.rows[images]
        ends = np.flatnonzero(np.diff(rows // cache.block_rows)) + 1
        for start, end in zip([0, *ends], [*ends, len(rows)], strict=True):
            self.source.take(rows[start:end], views[start:end], out=out[start:end])
            del cache.features
        return out


def place_maps(source: Source, part: Part, drawn: int, memory_bytes: int, name: str) -> Maps:
    """Prepared, if that fits into `memory_bytes`, else streamed."""
    if source.prepared_bytes(len(part.rows) * drawn) <= memory_bytes:
        return PreparedMaps(source, part, drawn, name)
    return StreamedMaps(source, part, drawn, memory_bytes)
