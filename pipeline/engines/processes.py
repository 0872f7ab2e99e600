"""Pools of processes that end with their parent, however it ends."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from multiprocessing import resource_tracker

from pipeline.checks import short
from pipeline.errors import ConfigError
from pipeline.progress import secure_output


def cores() -> int:
    """How many cores this process may use: as many as its affinity, its control group and LOKY_MAX_CPU_COUNT
    leave it. Raises: ConfigError when that variable is no number.
    """
    from joblib import cpu_count

    try:
        return cpu_count()
    except ValueError as error:
        found = short(os.environ.get("LOKY_MAX_CPU_COUNT"))
        raise ConfigError(f"LOKY_MAX_CPU_COUNT: expected a whole number, found {found}; unset it") from error


def processes(count: int, start: Callable[[], None]) -> Executor:
    """A pool of fresh processes, without the modules that this one has loaded; each calls `start` first.

    Interruptions are left to this process: the others end when it shuts the pool down, or is gone.
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
    from joblib.externals.loky import process_executor

    # loky takes a process that has grown by 300 MB, by loading torch or maps, for one that leaks, and ends it
    process_executor._MAX_MEMORY_LEAK_SIZE = sys.maxsize
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    secure_output()
    start()


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: killed, it can't shut its pool down."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
