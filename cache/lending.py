"""Memory that a worker process reads batches into, and that the process which wants them looks at in place.

torch sends a tensor through a new piece of shared memory, whose pages the system has to find and to clear for
each batch: that takes longer than reading it. Here a worker keeps a few pieces and uses one again when nobody
looks at what it held. Its first byte says whether it is lent: the worker sets it, and whoever has the batch
clears it once the last array on it is gone.

The pieces have no names: the other process opens them by way of /proc, and they go when both have ended.
"""

import itertools
import math
import mmap
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

PIECES = 8
"""At most so many to a worker: torch asks for two batches ahead, and the others may be in use."""
_BEGIN = 4096  # the numbers begin on a page of their own


class Loan(NamedTuple):
    """A piece of a worker's memory as another process finds it, and the array in it."""

    process: int
    fd: int
    inode: int
    shape: tuple[int, ...]
    dtype: str


class Lender:
    """The pieces of memory of this process."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, mmap.mmap]] = []

    def lend(self, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Loan, NDArray[Any]] | None:
        """A piece for an array, and the array, to be filled before the loan is sent; None when all are lent,
        or the system has no memory without a name.
        """
        count = math.prod(shape)
        nbytes = _BEGIN + count * dtype.itemsize
        free = (piece for piece in self._pieces if not piece[1][0] and len(piece[1]) >= nbytes)
        fd, memory = next(free, None) or self._new(nbytes) or (-1, None)
        if memory is None:
            return None
        memory[0] = 1
        array = np.frombuffer(memory, dtype, count, _BEGIN).reshape(shape)
        return Loan(os.getpid(), fd, os.fstat(fd).st_ino, shape, dtype.str), array

    def take_back(self, loan: Loan) -> None:
        """Have a piece free that wasn't sent."""
        next(memory for fd, memory in self._pieces if fd == loan.fd)[0] = 0

    def _new(self, nbytes: int) -> tuple[int, mmap.mmap] | None:
        if len(self._pieces) == PIECES or not hasattr(os, "memfd_create"):
            return None
        fd = os.memfd_create("batch")
        try:
            os.ftruncate(fd, nbytes)
            self._pieces.append((fd, mmap.mmap(fd, nbytes)))
        except OSError:
            os.close(fd)
            return None
        return self._pieces[-1]


class Borrower:
    """The pieces of other processes that this one has opened."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, int, int], mmap.mmap] = {}

    def look_at(self, loan: Loan) -> NDArray[Any] | None:
        """The array of a loan, whose memory is given back when nothing refers to it any more; None when it
        can't be reached.
        """
        memory = self._known.get(loan[:3]) or self._open(loan)
        return None if memory is None else np.asarray(_Borrowed(memory, loan.shape, loan.dtype))

    def _open(self, loan: Loan) -> mmap.mmap | None:
        for process, group in itertools.groupby(sorted(self._known), lambda key: key[0]):
            if not os.path.exists(f"/proc/{process}"):
                for key in group:  # arrays that are still looked at keep theirs
                    del self._known[key]
        try:
            fd = os.open(f"/proc/{loan.process}/fd/{loan.fd}", os.O_RDWR)
        except OSError:
            return None
        try:
            if os.fstat(fd).st_ino == loan.inode:
                return self._known.setdefault(loan[:3], mmap.mmap(fd, 0))
        finally:
            os.close(fd)
        return None


class _Borrowed:
    """The owner of an array's memory, which numpy and torch keep as long as they have a view of it."""

    def __init__(self, memory: mmap.mmap, shape: tuple[int, ...], dtype: str) -> None:
        self._memory = memory
        address = np.frombuffer(memory, np.uint8).ctypes.data + _BEGIN
        self.__array_interface__ = {"shape": shape, "typestr": dtype, "data": (address, False), "version": 3}

    def __del__(self) -> None:
        self._memory[0] = 0
