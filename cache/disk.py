"""Calls of the operating system: whole reads and writes, space, durable renames, locks.

Linux and macOS. Functions raise OSError; `explained` turns it into the one line that users see.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from cache.errors import CacheError

_ZEROS = memoryview(bytes(1 << 20))
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
_UNSUPPORTED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP)


def write_all(fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """pwrite until all is written; one call may write less."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def read_into(fd: int, view: memoryview, offset: int) -> None:
    """pread until `view` is full. Raises: EOFError when the file ends before."""
    while view:
        got = os.preadv(fd, [view], offset)
        if not got:
            raise EOFError("it was cut off")
        view, offset = view[got:], offset + got


def read_all(fd: int, nbytes: int, offset: int) -> bytearray:
    """Raises: EOFError when the file ends before."""
    data = bytearray(nbytes)
    read_into(fd, memoryview(data), offset)
    return data


def allocate(fd: int, nbytes: int) -> None:
    """Make an empty file this long with its space reserved, all zero: a full disk shows now and not halfway.

    macOS and some file systems can't reserve; zeros are written there.
    """
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(fd, 0, nbytes)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    for offset in range(0, nbytes, len(_ZEROS)):
        write_all(fd, _ZEROS[: nbytes - offset], offset)


def sync(fd: int) -> None:
    """Returns when the file is on the medium. (macOS's fsync only reaches the drive's own memory.)"""
    if full := getattr(fcntl, "F_FULLFSYNC", None):
        try:
            fcntl.fcntl(fd, full)
            return
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
    os.fsync(fd)


class BackgroundSync:
    """Brings a file to the medium while it is still being written, so that `sync` has little left to do.

    On macOS it does nothing: there is no call for the data alone.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._thread = ThreadPoolExecutor(1)
        self._last: Future[None] | None = None

    def start(self) -> bool:
        """Returns at once; False: left to a later call, since one is under way. Raises: as `finish`."""
        if hasattr(os, "fdatasync") and (self._last is None or self._last.done()):
            self.finish()
            with suppress(RuntimeError):  # no thread is to be had: the last `sync` does it all
                self._last = self._thread.submit(os.fdatasync, self._fd)
                return True
        return False

    def finish(self) -> None:
        """Raises: the OSError of the last one. The system tells of a failure once, not to `sync` again."""
        if self._last:
            self._last.result()

    def close(self) -> None:
        """End the thread. Returns when the file isn't needed any more."""
        self._thread.shutdown()


def rename(old: Path, new: Path) -> None:
    """Replace `new` by `old`, atomically and durably."""
    os.replace(old, new)
    folder = os.open(new.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:  # some network file systems can't sync a folder
            raise
    finally:
        os.close(folder)


def try_lock(fd: int) -> bool | None:
    """An exclusive lock on an open file, which ends with the process.

    False when someone else holds it; None when the file system has no locks, as Lustre by default.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def is_file_at(fd: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """OSError while writing `path` → CacheError that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        todo = "free some space" if full else "fix that"
        raise CacheError(
            f"{path}: can't be written: {error.strerror or error}; {todo} and run the same command again, "
            "blocks that reached the disk are kept"
        ) from error
