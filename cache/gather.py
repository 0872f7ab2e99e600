"""Copy rows of a large array into a small one by a few threads: one core can't use all of a memory's speed.

The rows are cut into pieces. The caller copies piece after piece and so does each helper that has woken up by
then, so that a helper which is late, or has no core to run on, costs nothing.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from queue import SimpleQueue

import numpy as np
from numpy.typing import NDArray

from cache.dtypes import Raw

PIECE_BYTES = 1 << 20  # some 0.1 ms, as long as it takes a thread to wake up
THREADS = 4  # where one has 12 GB/s, four have most of what a memory gives


def gather(source: Raw, index: NDArray[np.intp], out: Raw) -> None:
    """out[i] ← source[index[i]], for (N, D), indices from 0 to N - 1 and contiguous (n, D) of one dtype."""
    count = max(1, out.nbytes // PIECE_BYTES)
    step = max(1, -(-len(index) // count))
    pieces = [slice(at, at + step) for at in reversed(range(0, len(index), step))]
    at_work: list[SimpleQueue[BaseException | None]] = []

    def work() -> None:
        while pieces:
            try:
                piece = pieces.pop()
            except IndexError:  # another thread was faster
                return
            _copy(source, index, out, piece)

    def help_out() -> None:
        outcome: SimpleQueue[BaseException | None] = SimpleQueue()
        at_work.append(outcome)  # before it takes a piece: who isn't here when none is left, has none
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            outcome.put(error)
        outcome.put(None)

    try:
        if len(pieces) > 1 and not multiprocessing.parent_process():  # whose siblings have the other cores
            asked, helpers = _helpers()
            for _ in range(min(helpers, len(pieces) - 1)):
                asked.put(help_out)
        work()
    finally:
        pieces.clear()  # after Ctrl-C: nobody writes into `out` once this function is left
        errors = [outcome.get() for outcome in list(at_work)]
    for error in filter(None, errors):
        raise error


def _copy(source: Raw, index: NDArray[np.intp], out: Raw, piece: slice) -> None:
    source.take(
        index[piece], axis=0, out=out[piece], mode="clip"
    )  # which lets numpy write straight into `out`


@cache
def _helpers() -> tuple[SimpleQueue[Callable[[], None]], int]:
    """The queue of threads that wait for work, and how many there are.

    A pool of concurrent.futures takes longer to ask, and can't be asked once the interpreter is ending.
    """
    asked, count = SimpleQueue[Callable[[], None]](), 0

    def serve() -> None:
        while True:
            asked.get()()

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(RuntimeError):  # no more threads are to be had
        while count < min(cores, THREADS) - 1:
            threading.Thread(target=serve, name=f"cache-gather-{count}", daemon=True).start()
            count += 1
    return asked, count


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads stay behind in the parent
