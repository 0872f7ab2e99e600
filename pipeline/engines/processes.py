"""Pools of processes that end with their parent, however it ends."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import resource_tracker
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.progress import secure_output
from pipeline.wording import short

MOST = "LOKY_MAX_CPU_COUNT"
CGROUPS = Path("/sys/fs/cgroup")
QUOTAS = ("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
"""Files with a container's processor time, and in what time, of version 2 and 1 of Linux's control groups."""
INTERRUPTIONS = signal.SIGINT, signal.SIGTERM
_importing = threading.Lock()


def cores() -> int:
    """How many cores this process may use: as many as its affinity, its control group and LOKY_MAX_CPU_COUNT
    leave it. Raises: ConfigError when that variable is no number.
    """
    there = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        there = min(there, len(os.sched_getaffinity(0)))
    text = os.environ.get(MOST, str(there))
    try:
        return max(1, min(there, _in_group(), int(text)))
    except ValueError as error:
        raise ConfigError(f"{MOST}: expected a whole number, found {short(text)}; unset it") from error


def _in_group() -> int:
    """How many cores' time the control group of a container gives; a huge number without a limit."""
    for files in QUOTAS:
        with suppress(OSError, ValueError):  # "max": none
            quota, period = map(int, " ".join((CGROUPS / file).read_text() for file in files).split())
            if quota > 0 and period > 0:
                return -(-quota // period)
    return sys.maxsize


def processes(count: int, start: Callable[[], None]) -> Executor:
    """A pool of fresh processes, without the modules that this one has loaded; each calls `start` first.

    Interruptions are left to this process: the others end when it shuts the pool down, or is gone.
    """
    with _importing:  # joblib's modules import each other: two threads at once would find them half made
        from joblib.externals.loky import ProcessPoolExecutor

    resource_tracker.ensure_running()  # which unblocks signals when it starts
    pool = ProcessPoolExecutor(count, initializer=_begin, initargs=(start, os.getpid()))
    with _interrupted_later():
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTIONS)
        try:
            pool.submit(int)  # starts the processes, which inherit the mask from their first instruction on
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
    return pool


@contextmanager
def _interrupted_later() -> Iterator[None]:
    """Keep interruptions until the end, for some of the processes would be left for ever: what blocks them in
    this thread leaves them to another one, and then Python still raises them in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    with ExitStack() as stack:  # which does the rest, too, if one of these raises
        stack.callback(lambda: [signal.raise_signal(number) for number in came])
        for number in INTERRUPTIONS:
            if signal.getsignal(number) is not None:  # else a program that Python is part of has set it
                before = signal.signal(number, lambda number, frame: came.append(number))
                stack.callback(signal.signal, number, before)
        yield


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
