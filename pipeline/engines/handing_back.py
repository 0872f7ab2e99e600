"""What processes give back, through a file in memory instead of a pipe.

A pipe takes 64 kB at a time, and is read and unpacked under the interpreter's lock. Here a process writes its
arrays into a slot of a file that has no name and lies in memory, which is mapped into the parent's.
Where there are no such files (outside of Linux), or none can be opened, results take the pipe.
"""

import contextlib
import mmap
import os
import pickle
import secrets
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

T = TypeVar("T")

SLOT_BYTES = 1 << 40
"""From one slot's start to the next: room enough, since only what is written takes memory."""
LEAST_BYTES = 1 << 16
"""Arrays that are smaller together take the pipe, into which they go at once."""
_here: int | None = None
"""In a process of a pool: the file."""


class Written(NamedTuple):
    """A result whose arrays lie in a slot."""

    pickled: bytes
    sizes: list[int]
    """Bytes of each array, one behind the other."""


class ResultFile:
    """A file in memory with a slot for each task under way.

    Close it after the processes have ended: none can then write to another file of the same number.
    """

    def __init__(self) -> None:
        self._name = f"results-{secrets.token_hex(8)}"
        self._fd = os.memfd_create(self._name) if hasattr(os, "memfd_create") else None
        self._free, self._slots = list[int](), 0

    @property
    def opener(self) -> Callable[[], None]:
        """What each process has to call first."""
        return _Opener(f"/proc/{os.getpid()}/fd/{self._fd}", self._name)

    def take_slot(self) -> int:
        """A slot that nobody writes to."""
        if self._free:
            return self._free.pop()
        self._slots += 1
        return self._slots - 1

    def give_back(self, slot: int, _: object = None) -> None:
        """Let others write to a slot, whose task is done."""
        self._free.append(slot)

    def read(self, slot: int, result: Any) -> Any:
        """What `call` gave for this slot, to which others may write when the last of its arrays is gone."""
        if not isinstance(result, Written) or self._fd is None:
            self.give_back(slot)
            return result
        mapped = mmap.mmap(self._fd, sum(result.sizes), offset=slot * SLOT_BYTES)
        weakref.finalize(mapped, self.give_back, slot).atexit = False
        parts = np.split(np.frombuffer(mapped, np.uint8), np.cumsum(result.sizes)[:-1])
        return pickle.loads(result.pickled, buffers=parts)

    def close(self) -> None:
        """Free its memory."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class _Opener:
    """Opens the parent's file in a process, if it is that file."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name = path, name

    def __call__(self) -> None:
        global _here
        with contextlib.suppress(OSError):
            opened = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
            if os.readlink(f"/proc/self/fd/{opened}").startswith(f"/memfd:{self.name} "):
                _here = opened
            else:
                os.close(opened)


def call(slot: int, work: Callable[..., T], *task: Any) -> T | Written:
    """In a process: `work(*task)`, with its arrays in a slot where the file is open."""
    result = work(*task)
    if _here is None:
        return result
    arrays: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps(result, protocol=5, buffer_callback=arrays.append)
    parts, at = [array.raw() for array in arrays], slot * SLOT_BYTES
    sizes = list(map(len, parts))
    if sum(sizes) < LEAST_BYTES:
        return result
    try:
        for part in parts:
            while part:
                done = os.pwrite(_here, part, at)
                at, part = at + done, part[done:]
    except OSError:  # a limit on the size of files
        return result
    return Written(pickled, sizes)
