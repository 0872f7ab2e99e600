"""Do tasks ahead of their consumer, in order, in threads or processes.

`joblib.Parallel` has this as return_as="generator", but reads ahead without bound: what a slow consumer has
not fetched piles up in memory. So its processes (loky) are used, without its loop.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from typing import TypeVar

from pipeline.errors import DataError

T = TypeVar("T")


def in_order(
    work: Callable[..., T], tasks: Iterable[tuple], pool: Executor | None, ahead: int
) -> Generator[T]:
    """`work(*task)` for each task, in order, at most `ahead` tasks before they are asked for.

    Closing it drops the tasks not yet begun; the pool is the caller's to end. A pool of None does each task
    when it is asked for.

    Raises: what `work` raises, at the task's place in the order; DataError when a process was killed.
    """
    if pool is None:
        yield from (work(*task) for task in tasks)
        return
    under_way: deque[Future[T]] = deque()
    try:
        for task in tasks:
            under_way.append(pool.submit(work, *task))
            if len(under_way) > ahead:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a process that decodes images was killed, perhaps for want of memory; give fewer --workers"
        ) from error
    finally:
        for future in under_way:
            future.cancel()


def threads(count: int) -> Executor:
    return ThreadPoolExecutor(count)


def processes(count: int, start: Callable[[], None]) -> Executor:
    """Fresh processes, without what this one has loaded; each calls `start` first.

    An interruption is left to this process: they end when it shuts them down, and when it is gone.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    resource_tracker.ensure_running()  # which unblocks signals when it starts
    pool = ProcessPoolExecutor(count, initializer=_begin, initargs=(start, os.getpid()))
    unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        pool.submit(int)  # starts the processes, which inherit the mask from their first instruction on
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    return pool


def _begin(start: Callable[[], None], parent: int) -> None:
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    start()


def _end_with(parent: int) -> None:
    """A parent that was killed can't shut its workers down: they would wait for tasks for ever."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
