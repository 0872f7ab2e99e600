"""Make system calls fail, kill processes in the middle of them, and run things in processes that may die."""

import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from cache import CacheError

# Every call through which the cache changes the disk.
CALLS = ("pwrite", "posix_fallocate", "ftruncate", "fsync", "replace")
CACHE_ERROR = 3  # exit code of a child that ended with a CacheError


@contextlib.contextmanager
def interrupted(at: int, how: Callable[[], None]) -> Iterator[list[str]]:
    """Call `how` instead of system call number `at`; of a write, half is done before. Yields the calls."""
    made: list[str] = []

    def wrap(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any) -> Any:
            made.append(name)
            if len(made) - 1 == at:
                if name == "pwrite":
                    fd, data, offset = args
                    real(fd, data[: len(data) // 2], offset)
                how()
            return real(*args)

        return call

    with contextlib.ExitStack() as stack:
        for name in CALLS:
            if hasattr(os, name):
                stack.enter_context(mock.patch.object(os, name, wrap(name)))
        yield made


def count_calls(action: Callable[[], object]) -> int:
    with interrupted(-1, lambda: None) as made:
        action()
    return len(made)


def fail(code: int) -> Callable[[], None]:
    def how() -> None:
        raise OSError(code, os.strerror(code))

    return how


def interrupt() -> None:
    raise KeyboardInterrupt


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def spawn(action: Callable[[], object], said: Callable[[str], object] = lambda text: None) -> int:
    """Start `action` in a forked process. Its exit code: 0, CACHE_ERROR after telling `said`, or 1."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        action()
        code = 0
    except CacheError as error:
        said(str(error))
        code = CACHE_ERROR
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """A child's exit code, negative when a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


ERRORS = {"disk full": fail(errno.ENOSPC), "i/o error": fail(errno.EIO), "Ctrl-C": interrupt}
