"""Rows of a large array into a small one, by a few threads: one core can't ask memory for all it has to give.

The rows are cut into pieces. The caller copies piece after piece and so does each helper that has woken up by
then, so that a helper which is late, or has no core to run on, costs nothing.
"""

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from cache.dtypes import Raw

PIECE_BYTES = 1 << 20  # some 0.1 ms, as long as it takes a thread to wake up
THREADS = 4  # where one has 12 GB/s, four have most of what a memory gives


def gather(source: Raw, index: NDArray[np.intp], out: Raw) -> None:
    """out[i] ← source[index[i]], for (N, D), indices from 0 to N - 1 and contiguous (n, D) of one dtype."""
    pieces = out.nbytes // PIECE_BYTES
    helpers = min(_cores(), THREADS, pieces) - 1
    if helpers < 1 or multiprocessing.parent_process():  # its siblings have the other cores
        _copy(source, index, out)
        return
    step = -(-len(index) // pieces)
    starts = deque(range(0, len(index), step))
    changed, busy, errors = threading.Condition(), 0, list[BaseException]()

    def work() -> None:
        while starts:
            try:
                start = starts.popleft()
            except IndexError:  # another thread was faster
                return
            _copy(source, index[start : start + step], out[start : start + step])

    def help_out() -> None:
        nonlocal busy
        with changed:
            busy += 1
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)
        finally:
            with changed:
                busy -= 1
                changed.notify()

    try:
        _helpers().ask(help_out, helpers)
        work()
    finally:
        with changed:  # after Ctrl-C: nobody writes into `out` once this function is left
            starts.clear()
            changed.wait_for(lambda: not busy)
    if errors:
        raise errors[0]


def _copy(source: Raw, index: NDArray[np.intp], out: Raw) -> None:
    source.take(index, axis=0, out=out, mode="clip")  # "clip" lets numpy write straight into `out`


class _Helpers:
    """Threads that wait for work.

    A pool of concurrent.futures takes longer to ask, and can't be asked once the interpreter is ending.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._count, self._growing = 0, threading.Lock()

    def ask(self, task: Callable[[], None], helpers: int) -> None:
        """Have up to `helpers` threads call `task`, fewer where no more can be started."""
        if self._count < helpers:
            with self._growing, contextlib.suppress(RuntimeError):
                while self._count < helpers:
                    threading.Thread(
                        target=self._serve, name=f"cache-gather-{self._count}", daemon=True
                    ).start()
                    self._count += 1
        for _ in range(min(helpers, self._count)):
            self._asked.put(task)

    def _serve(self) -> None:
        while True:
            self._asked.get()()


@cache
def _helpers() -> _Helpers:
    return _Helpers()


@cache
def _cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads stay behind in the parent
