"""Decode, compute and write at the same time.

    decode_blocks (ahead) → Streams: a batch each, into its slice of the piece → a thread that writes pieces

A piece is a block, or as much of one as PIECE_BYTES hold. At most UNDER_WAY pieces are past the decoder; one
more is being decoded. Batches never span blocks, and pieces end where batches do, so what a block holds does
not depend on which blocks were there before an interruption, nor on the pieces.

Legend: n images, V views, C×H×W map, S = image_px.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cache import CacheWriter
from pipeline.datasets.base import ImageSplit
from pipeline.extraction.pieces import Memory, pieces_of
from pipeline.images.on_device import Cuts, sent
from pipeline.images.pool import Decoders
from pipeline.images.views import Views
from pipeline.progress import Progress
from pipeline.trunks.prepare import PreparedTrunk

UNDER_WAY = 2
"""Pieces that are computed or written: while one is written, the next keeps the trunk busy."""
HALF_MAX = torch.finfo(torch.float16).max
Encode = Callable[[range, np.ndarray], np.ndarray]


def write_missing(
    writers: Sequence[CacheWriter],
    split: ImageSplit,
    views: Views,
    prepared: PreparedTrunk,
    decoders: Decoders,
    batch: int | None = None,
) -> str:
    """Compute and write every block that a cache still misses, of each of the prepared trunk's maps; says how
    fast, and what bounded it.

    batch: images of a forward pass, each view counted; None takes as many as suit the device.

    Raises: DataError, CacheError. Blocks that are written by then stay.
    """
    missing, started = [frozenset(writer.missing) for writer in writers], time.perf_counter()
    blocks = sorted(frozenset[range]().union(*missing), key=lambda block: block.start)
    count = sum(map(len, blocks))
    step = max(1, (batch or prepared.best_batch) // views.per_image)
    seconds = {"decode": 0.0, "trunk": 0.0, "disk": 0.0}
    progress = Progress(f"extracting {split.split}", count, "images")
    streams = Streams(prepared, views, [writer.encode for writer in writers], progress.advance)
    memory = Memory.of(writers, prepared)
    pieces, decode = pieces_of(blocks, prepared, memory, streams.count, step)
    decoded = decode(split, pieces, prepared.transform, decoders)
    with progress, closing(decoded), ThreadPoolExecutor(1) as disk, closing(streams):
        under_way: deque[Future[None]] = deque()
        for _ in pieces:
            with clocked(seconds, "decode"):
                rows, found, digests = next(decoded)
            images = Cuts(found, prepared.transform) if isinstance(found, list) else found
            maps = memory.maps(len(rows))
            slices = [slice(at, at + step) for at in range(0, len(rows), step)]
            batches = [
                streams.submit(images[part], rows[part], *(layer[part] for layer in maps)) for part in slices
            ]
            under_way.append(disk.submit(_write, writers, missing, rows, maps, batches, digests, seconds))
            if len(under_way) == UNDER_WAY:
                under_way.popleft().result()
        for written in under_way:
            written.result()
    seconds["trunk"] = sum(streams.seconds) / streams.count
    return _in_words(count, seconds, time.perf_counter() - started)


def _write(
    writers: Sequence[CacheWriter],
    missing: Sequence[frozenset[range]],
    rows: range,
    maps: Sequence[Tensor],
    batches: Iterable[Future[int]],
    digests: np.ndarray,
    seconds: dict[str, float],
) -> None:
    """Wait for a piece's batches, and write its maps where they are missing."""
    for computed in batches:
        computed.result()
    with clocked(seconds, "disk"):
        for writer, blocks, layer in zip(writers, missing, maps, strict=True):
            if any(rows.start in block for block in blocks):
                writer.write(rows, layer.numpy(), digests)


def _in_words(count: int, seconds: Mapping[str, float], total: float) -> str:
    bound = max(seconds, key=lambda name: seconds[name])  # they overlap: their shares don't add up to one
    shares = ", ".join(f"{name} {spent / total:.0%}" for name, spent in seconds.items())
    speed = f"{count:,} images in {total:.1f} s ({count / total:,.0f} images/s)"
    return f"{speed}, bounded by the {bound} ({shares} of the time)"


@contextmanager
def clocked(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Adds the time spent inside to `seconds[name]`."""
    started = time.perf_counter()
    yield
    seconds[name] += time.perf_counter() - started


class Computing(Protocol):
    """A prepared trunk, or a module around one: uint8 images (B, 3, S, S) → numbers (B, ...)."""

    @property
    def device(self) -> torch.device: ...
    def __call__(self, images: Tensor) -> Tensor: ...


class Streams:
    """Threads that run a prepared trunk on several batches at once.

    On a CPU each core has a batch of its own, from beginning to end: threads that share a batch meet after
    every layer, and a decoder that takes one core away for a moment makes all of them wait. On a GPU two
    streams of kernels overlap one batch's way to the device and back with the other's computation.
    """

    def __init__(
        self,
        prepared: Computing,
        views: Views,
        encode: Encode | Sequence[Encode],
        on_done: Callable[[int], object] = lambda images: None,
    ) -> None:
        """Args:
        encode: called for maps that don't fit where they belong, to refuse them (`CacheWriter.encode`); for
            the maps of several layers, one for each.
        on_done: called after each batch, in its thread, with the number of its images.
        """
        self.prepared, self.views, self.on_done = prepared, views, on_done
        self.encode = (encode,) if callable(encode) else tuple(encode)
        self.seconds: list[float] = []
        """The time that each batch took, from pixels to maps on the host."""
        self._threads = torch.get_num_threads()
        self.count = {"cpu": self._threads, "cuda": 2}.get(prepared.device.type, 1)
        # which GPU `cuda` means is said for each thread
        self._gpu = torch.cuda.current_device() if prepared.device.type == "cuda" else None
        self._pool = ThreadPoolExecutor(self.count, initializer=self._start)
        if prepared.device.type == "cuda":
            torch.cuda.synchronize(prepared.device)  # the weights are there

    def close(self) -> None:
        """Drop batches that have not begun, and wait for the others."""
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads)

    def submit(self, images: np.ndarray | Cuts, rows: range, *maps: Tensor) -> Future[int]:
        """Compute the maps (n, V, C, H, W) of uint8 images (n, 3, S, S) of these rows, of each layer; gives n
        when done.

        Raises, from the future: CacheError when they have another shape or a number that doesn't fit.
        """
        return self._pool.submit(self._compute, images, rows, maps)

    def _start(self) -> None:
        if self.prepared.device.type == "cpu":
            torch.set_num_threads(1)  # within a batch; it counts for this thread alone
        if self._gpu is not None:
            torch.cuda.set_device(self._gpu)
            torch.cuda.set_stream(torch.cuda.Stream())

    @torch.inference_mode()
    def _compute(self, images: np.ndarray | Cuts, rows: range, maps: tuple[Tensor, ...]) -> int:
        started, device = time.perf_counter(), self.prepared.device
        inputs = images.on(device) if isinstance(images, Cuts) else sent(images, device)
        made = self.prepared(self.views.of(inputs, rows))
        layers = (made,) if isinstance(made, Tensor) else made
        for computed, place, encode in zip(layers, maps, self.encode, strict=True):
            computed = computed.unflatten(0, (len(rows), self.views.per_image))
            if computed.shape != place.shape or not _fits(computed, place.dtype):
                computed = torch.from_numpy(encode(rows, computed.float().numpy(force=True)))
            place.copy_(computed, non_blocking=computed.is_cuda)
        if device.type == "cuda":
            torch.cuda.current_stream(device).synchronize()
        self.seconds.append(time.perf_counter() - started)
        self.on_done(len(rows))
        return len(rows)


def _fits(maps: Tensor, dtype: torch.dtype) -> bool:
    """Whether a conversion keeps every number finite. Else the writer would say that the trunk computed
    infinity, not that float16 is too small for it."""
    if dtype != torch.float16 or maps.dtype == dtype:
        return True
    low, high = maps.aminmax()
    return bool(low >= -HALF_MAX and high <= HALF_MAX)  # neither holds for NaN
