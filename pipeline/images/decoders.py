"""Threads or processes that decode the images of a whole stage: started once, before the first is needed.

Pillow lets go of the interpreter's lock while it decodes and resizes, so threads, which start at once, keep a
few cores busy with photographs. Of a tiny image most is Python, and threads wait for each other's lock.
Processes don't, but take a second to start. Taken is what is expected to be done first.
"""

from collections.abc import Iterable
from concurrent.futures import Executor
from types import TracebackType
from typing import Self

import joblib

from pipeline.datasets.base import ImageSplit
from pipeline.engines.processes import processes, threads
from pipeline.images.decode import hush

THREADS = 4
"""More would take turns at the interpreter's lock rather than at the cores: on 16 cores, 16 threads decode
7,300 tiny JPEGs a second where 4 decode 12,800."""
START_SECONDS = 0.9
"""From asking for 16 processes on 16 cores until they are there."""
LOCKED_SECONDS = 80e-6
"""An image's part that threads do one after the other, their waiting for the lock included."""
IMAGE_SECONDS = 20e-6
"""The same in a process, which has the lock for itself."""
BYTE_SECONDS = 35e-9
"""Of one core, without the lock, for a byte of a JPEG file: decoding and resizing. A PNG's takes half."""


class Decoders:
    """Workers for the images of some splits, there until it is left; then no thread or process remains."""

    def __init__(self, splits: Iterable[ImageSplit], workers: int) -> None:
        """`splits`: all that is to be decoded; none starts nothing.

        workers: so many processes, or at most `THREADS` threads; 1 decodes in the calling thread, 0 takes one
        per core.
        """
        splits = list(splits)
        encoded = [split for split in splits if not split.images.in_memory]
        count = min(workers or joblib.cpu_count(), max(sum(map(len, splits)), 1))
        self.are_processes = count > THREADS and processes_are_faster(
            sum(map(len, encoded)), sum(int(split.sizes.sum()) for split in encoded), count
        )
        self.count = count if self.are_processes else min(count, THREADS)
        self.pool: Executor | None = None
        """None: work is done in the calling thread."""

    def __enter__(self) -> Self:
        if self.count > 1:
            self.pool = processes(self.count, start=_start) if self.are_processes else threads(self.count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pool:
            self.pool.shutdown(wait=True)


def processes_are_faster(images: int, encoded_bytes: int, count: int) -> bool:
    """Whether so many processes, still to be started, should be done before `THREADS` threads."""
    by_threads = images * LOCKED_SECONDS + encoded_bytes * BYTE_SECONDS / THREADS
    by_processes = START_SECONDS + (images * IMAGE_SECONDS + encoded_bytes * BYTE_SECONDS) / count
    return by_processes < by_threads


def _start() -> None:
    """In each process, before its first task: by then it has imported what the tasks need."""
    import pipeline.images.blocks  # noqa: F401  # which imports this module

    hush()
