"""The overlap of decoding, trunk and writing.

    decode_blocks (Decoders, ahead) → this thread → Streams (a batch each) → one thread that writes blocks

At most UNDER_WAY blocks are past the decoder; one more is being decoded. Batches never span blocks, so what a
block holds does not depend on which blocks were there before an interruption.
"""

import contextlib
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from cache import CacheWriter
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit
from pipeline.extraction.streams import Streams
from pipeline.images.blocks import decode_blocks
from pipeline.images.pool import Decoders
from pipeline.images.views import Views
from pipeline.trunks.prepare import PreparedTrunk

T = TypeVar("T")
UNDER_WAY = 2
"""Blocks that are computed or written: while one is written, the next keeps the trunk busy."""


def fill(
    writer: CacheWriter,
    split: ImageSplit,
    views: Views,
    prepared: PreparedTrunk,
    config: ExtractConfig,
    decoders: Decoders,
) -> str:
    """Compute and write every block that the cache still misses; says how fast, and what bounded it.

    Raises: DataError, CacheError. Blocks that are written by then stay.
    """
    missing = writer.missing
    count = sum(map(len, missing))
    batch = max(1, (config.batch or prepared.best_batch) // views.per_image)
    started = time.perf_counter()
    progress = tqdm(total=count, desc=split.split, unit=" images", leave=False)
    decoded = decode_blocks(split, missing, prepared.transform, decoders)
    blocks, store = Clocked(decoded), Store(writer, progress)
    streams = Streams(prepared, views, halve=config.dtype == "float16")
    with progress, contextlib.closing(decoded), store, streams:
        for rows, images, digests in blocks:
            maps = streams.room(len(rows), *writer.header.shape[1:])
            parts = [
                streams.submit(images[at : at + batch], rows[at : at + batch], maps[at : at + batch])
                for at in range(0, len(rows), batch)
            ]
            store.submit(rows, maps, parts, digests)
        store.finish()
    seconds = time.perf_counter() - started
    shares = {
        "decode": blocks.seconds / seconds,
        "trunk": sum(streams.batch_seconds) / streams.count / seconds,
        "disk": store.seconds / seconds,
    }
    return f"{count:,} images in {seconds:.1f} s ({count / seconds:,.0f} images/s), {verdict(shares)}"


def verdict(shares: dict[str, float]) -> str:
    """What bounded the run, from the shares of its time in which it was waiting for the decoder, the trunk
    was computing, and the disk was being written. They overlap, so they do not add up to one."""
    bound = max(shares, key=lambda part: shares[part])
    listed = ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
    return f"bounded by the {bound} ({listed} of the time)"


class Clocked(Iterator[T]):
    """An iterable, and the seconds that were spent waiting for its items."""

    def __init__(self, items: Iterable[T]) -> None:
        self.seconds = 0.0
        self._items = iter(items)

    def __next__(self) -> T:
        started = time.perf_counter()
        try:
            return self._pull()
        finally:
            self.seconds += time.perf_counter() - started

    def _pull(self) -> T:
        return next(self._items)


class Store:
    """A thread that writes blocks, in the order they are submitted, once their maps are there."""

    def __init__(self, writer: CacheWriter, progress: tqdm) -> None:
        self.seconds = 0.0
        """Spent writing."""
        self._writer, self._progress = writer, progress
        self._thread = ThreadPoolExecutor(1)
        self._under_way: deque[Future[None]] = deque()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *stop: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def submit(self, rows: range, maps: Tensor, parts: list[Future[Tensor]], digests: np.ndarray) -> None:
        """`parts` become the parts of `maps`; those that don't fit in are something else.

        Returns when fewer than UNDER_WAY blocks are under way. Raises what computing or writing did.
        """
        self._under_way.append(self._thread.submit(self._store, rows, maps, parts, digests))
        while len(self._under_way) >= UNDER_WAY:
            self._under_way.popleft().result()

    def finish(self) -> None:
        """Returns when every block is written."""
        while self._under_way:
            self._under_way.popleft().result()

    def _store(self, rows: range, maps: Tensor, parts: list[Future[Tensor]], digests: np.ndarray) -> None:
        there = []
        for part in parts:
            there.append(part.result())
            self._progress.update(len(there[-1]))
        started = time.perf_counter()
        if any((part.dtype, part.shape[1:]) != (maps.dtype, maps.shape[1:]) for part in there):
            maps = torch.cat(there)  # what did not fit in, for the writer to say why
        self._writer.write(rows, maps.numpy(), digests)
        self.seconds += time.perf_counter() - started
