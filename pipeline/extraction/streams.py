"""Run a prepared trunk on several batches at once.

On a CPU each core has a batch of its own, from beginning to end. Threads that share a batch meet after every
layer, and a decoder that takes one core away for a moment makes all of them wait. On a GPU two streams of
kernels overlap one batch's way to the device and back with the other's computation.

Legend: n images of a batch, V views, C×H×W map, S = image_px.
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from pipeline.images.views import Views
from pipeline.trunks.prepare import PreparedTrunk

HALF_MAX = torch.finfo(torch.float16).max


class Streams:
    """A pool of threads that turn uint8 images into maps on the host. Leaving it drops what has not begun."""

    def __init__(self, prepared: PreparedTrunk, views: Views, halve: bool) -> None:
        """`halve`: the maps will be stored as float16, so bring them as that where they fit."""
        self.prepared, self.views, self.halve = prepared, views, halve
        self.batch_seconds: list[float] = []
        """What each batch took, from pixels to maps on the host."""
        self._threads = torch.get_num_threads()
        self.count = {"cpu": self._threads, "cuda": 2}.get(prepared.device.type, 1)

    def __enter__(self) -> Self:
        if self.prepared.device.type == "cuda":
            torch.cuda.synchronize(self.prepared.device)  # the weights are there
        self._pool = ThreadPoolExecutor(self.count, initializer=self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self._threads)

    @property
    def dtype(self) -> torch.dtype:
        """Of maps on the host, but for those that are too large for it."""
        return torch.float16 if self.halve or self.prepared.dtype == torch.float16 else torch.float32

    def room(self, *shape: int) -> Tensor:
        """Memory on the host for maps (n, V, C, H, W), which the device reaches by itself."""
        return torch.empty(shape, dtype=self.dtype, pin_memory=self.prepared.device.type == "cuda")

    def submit(self, images: np.ndarray, rows: range, room: Tensor | None = None) -> Future[Tensor]:
        """uint8 images (n, 3, S, S) of these rows → maps (n, V, C, H, W), float16 or float32.

        They are put into `room`, and it is given back. Maps that don't fit in, by their numbers or their
        shape, come by themselves, and so do those that have no room.
        """
        return self._pool.submit(self._compute, torch.from_numpy(images), rows, room)

    def _start(self) -> None:
        if self.prepared.device.type == "cpu":
            torch.set_num_threads(1)  # within a batch; it counts for this thread alone
        if self.prepared.device.type == "cuda":
            torch.cuda.set_stream(torch.cuda.Stream(self.prepared.device))

    @torch.inference_mode()
    def _compute(self, images: Tensor, rows: range, room: Tensor | None) -> Tensor:
        started = time.perf_counter()
        if self.prepared.device.type == "cuda":
            images = images.pin_memory()
        images = images.to(self.prepared.device, non_blocking=True)
        maps = self._stored(self.prepared(self.views.of(images, rows))).contiguous()
        maps = maps.unflatten(0, (len(rows), self.views.per_image))
        if room is None or (room.dtype, room.shape) != (maps.dtype, maps.shape):  # a copy would broadcast
            room = torch.empty(maps.shape, dtype=maps.dtype, pin_memory=maps.is_cuda)
        room.copy_(maps, non_blocking=maps.is_cuda)
        if maps.is_cuda:
            torch.cuda.current_stream(maps.device).synchronize()
        self.batch_seconds.append(time.perf_counter() - started)
        return room

    def _stored(self, maps: Tensor) -> Tensor:
        """In the numbers that they are stored as, or in float32 where these are too few."""
        if maps.dtype == torch.bfloat16:
            maps = maps.float()  # numpy has no bfloat16
        if self.halve and maps.dtype == torch.float32:
            low, high = maps.aminmax()
            if low >= -HALF_MAX and high <= HALF_MAX:  # neither holds for NaN
                return maps.half()
        return maps
