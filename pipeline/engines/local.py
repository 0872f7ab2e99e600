"""Workers that are processes of this machine, each a pool of its own: the end of one ends all of a pool."""

import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial

from pipeline.engines.outcome import Outcome, Task
from pipeline.engines.pool import WorkerError
from pipeline.engines.processes import processes
from pipeline.engines.sharing import share_machine


@contextmanager
def open_workers(count: int) -> Iterator[list["LocalWorker"]]:
    """Workers whose processes start when they are first needed."""
    yield [LocalWorker(at, count) for at in range(count)]


class LocalWorker:
    """A process, and another one after it was killed."""

    def __init__(self, at: int, count: int) -> None:
        self._begin = partial(share_machine, at, count)
        self._pool: Executor | None = None
        self._starting, self._is_stopped = threading.Lock(), False

    def run(self, task: Task) -> Outcome:
        try:
            return self._started().submit(task).result()
        except BrokenProcessPool:
            self._pool = None
            raise WorkerError("its process was killed") from None

    def stop(self) -> None:
        with self._starting:
            self._is_stopped = True
            if self._pool is not None:
                self._pool.shutdown(kill_workers=True)  # pyright: ignore[reportCallIssue]

    def _started(self) -> Executor:
        with self._starting:
            if self._is_stopped:
                raise WorkerError("it was stopped")
            if self._pool is not None:
                try:
                    self._pool.submit(int)
                except BrokenProcessPool:  # killed while it was idle
                    self._pool = None
            self._pool = self._pool or processes(1, self._begin)
            return self._pool
