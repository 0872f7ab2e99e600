"""Workers that are processes of this machine, each a pool of its own: the end of one ends all of a pool."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.engines.pool import WorkerError
from pipeline.engines.processes import cores, processes


@contextmanager
def open_workers(count: int) -> Iterator[list["LocalWorker"]]:
    """Workers whose processes start when they are first needed."""
    yield [LocalWorker(at, count) for at in range(count)]


class LocalWorker:
    """A process, and another one after it was killed."""

    def __init__(self, at: int, count: int) -> None:
        self._begin = partial(share_machine, at, count)
        self._pool: Executor | None = None

    def run(self, task: Callable[[], Any]) -> Any:
        try:
            return self._started().submit(task).result()
        except BrokenProcessPool:
            self._pool = None
            raise WorkerError("its process was killed") from None

    def stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(kill_workers=True)  # pyright: ignore[reportCallIssue]

    def _started(self) -> Executor:
        if self._pool is not None:
            try:
                self._pool.submit(int)
            except BrokenProcessPool:  # killed while it was idle
                self._pool = None
        self._pool = self._pool or processes(1, self._begin)
        return self._pool


def share_machine(at: int, count: int) -> None:
    """Take this process's share of the cores, and of the GPUs, before torch is loaded.

    at: which of the `count` processes it is.
    """
    threads = max(1, cores() // count)
    os.environ["LOKY_MAX_CPU_COUNT"] = str(threads)  # what `cores` gives from now on
    os.environ["OMP_NUM_THREADS"] = str(min(threads, _number("OMP_NUM_THREADS") or threads))
    gpus = _gpus()
    if len(gpus) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus[at % len(gpus)]


def _gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    folder = Path("/proc/driver/nvidia/gpus")
    return [str(at) for at, _ in enumerate(folder.iterdir())] if folder.is_dir() else []


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else 0
