"""Workers that decode the images of a whole stage: threads or processes, started before the first is needed.

Decoding releases the interpreter's lock, so a few threads, which start at once, keep a few cores busy. More
threads would mostly wait for that lock, above all with small images. Processes don't, but take a second to
start. Hence threads for up to four workers or few images, and processes for the rest.
"""

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self, TypeVar

from pipeline.datasets.base import ImageSplit
from pipeline.engines.handing_back import ResultFile, call
from pipeline.engines.processes import cores, processes
from pipeline.errors import DataError
from pipeline.images.pillow import hush

T = TypeVar("T")

THREADS = 4
"""On 16 cores, 16 threads decode 7,300 images of 32×32 pixels a second where 4 decode 12,800."""
PROCESS_IMAGES, PROCESS_BYTES = 15_000, 256 << 20
"""Images, or bytes of them, from which processes are worth the second of their start: four threads take about
as long for 15,000 tiny files, or for as many photos as have so many bytes."""


class Decoders:
    """A context manager: workers while inside it, no thread or process afterwards."""

    def __init__(self, splits: Iterable[ImageSplit], most: int | None) -> None:
        """Args:
        splits: everything that will be decoded; none starts nothing.
        most: how many workers, at most; 1 decodes in the calling thread, None means one per core.
        """
        splits = list(splits)
        encoded = [split for split in splits if not split.images.in_memory]
        is_much = (
            sum(map(len, encoded)) >= PROCESS_IMAGES
            or sum(int(split.sizes.sum()) for split in encoded) >= PROCESS_BYTES
        )
        self.count = min(most or cores(), max(sum(map(len, splits)), 1))
        self.are_processes = self.count > THREADS and is_much
        if not self.are_processes:
            self.count = min(self.count, THREADS)
        self._pool: Executor | None = None
        self._results: ResultFile | None = None

    def __enter__(self) -> Self:
        if self.are_processes:
            self._results = ResultFile()
            self._pool = processes(self.count, functools.partial(_start, self._results.opener))
        elif self.count > 1:
            self._pool = ThreadPoolExecutor(self.count)
        return self

    def __exit__(self, *stop: object) -> None:
        if self._pool:
            self._pool.shutdown(wait=True)
        if self._results:
            self._results.close()

    def in_order(self, work: Callable[..., T], tasks: Iterable[tuple], ahead: int) -> Generator[T]:
        """Yield `work(*task)` for each task, in order, at most `ahead` tasks before they are asked for.

        Closing it drops the tasks that have not begun. (`joblib.Parallel` reads ahead without bound.)

        Raises: what `work` raises, at the task's place in the order; DataError when a process was killed.
        """
        if self._pool is None:
            yield from (work(*task) for task in tasks)
            return
        under_way: deque[tuple[Future[Any], int]] = deque()
        try:
            for task in tasks:
                under_way.append(self._submit(self._pool, work, task))
                if len(under_way) > ahead:
                    yield self._result(*under_way.popleft())
            while under_way:
                yield self._result(*under_way.popleft())
        except BrokenProcessPool as error:
            raise DataError(
                "a process that decodes images was killed, perhaps for want of memory; use fewer --decoders"
            ) from error
        finally:
            for future, slot in under_way:
                future.cancel()
                if self._results:  # what has begun still writes
                    future.add_done_callback(functools.partial(self._results.give_back, slot))

    def _submit(self, pool: Executor, work: Callable[..., T], task: tuple) -> tuple[Future[Any], int]:
        if self._results is None:
            return pool.submit(work, *task), 0
        slot = self._results.take_slot()
        return pool.submit(call, slot, work, *task), slot

    def _result(self, future: Future[Any], slot: int) -> Any:
        return self._results.read(slot, future.result()) if self._results else future.result()


def _start(open_results: Callable[[], None]) -> None:
    """What each process does first."""
    hush()
    open_results()
