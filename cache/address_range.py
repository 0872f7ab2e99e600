"""The features of several files at one range of addresses, so that a batch is gathered from all in one go.

Linux maps a file by large pages of 2 MiB where addresses and places in the file agree in what is left over by
2 MiB; reading rows at random is a fifth slower without. So a file gets a place where they do, and some
addresses between files stay empty, which costs nothing. Private maps that nothing is reserved for, as that of
one file. Linux and macOS.
"""

import ctypes
import math
import mmap
import os
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from cache.dtypes import Raw

# Linux refuses a writable private map larger than the memory, unless told to reserve none for it.
# The mmap module knows the constant only from Python 3.13 on.
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)
LARGE_PAGE = 2 << 20
_MOST_ADDRESSES = 1 << 45  # of the 47 bits that a process has
_MAP_FIXED = 0x10
_ANONYMOUS = mmap.MAP_PRIVATE | mmap.MAP_ANON | NORESERVE


def slots(counts: Sequence[int], offsets: Sequence[int], row_bytes: int) -> NDArray[np.int64] | None:
    """The row of an address range at which the rows of each file begin, in order: such that its bytes, which
    begin at an offset, lie on pages, on large ones if they are large. None where there are no such rows.
    """
    for page in (LARGE_PAGE, mmap.PAGESIZE):
        places = _places(counts, offsets, row_bytes, page)
        if places and (places[-1] + counts[-1]) * row_bytes <= _MOST_ADDRESSES:
            return np.array(places, np.int64)
    return None


def _places(counts: Sequence[int], offsets: Sequence[int], row_bytes: int, page: int) -> list[int]:
    """The least rows whose first byte and the offset have the same rest by `page`; [] if there are none."""
    common = math.gcd(row_bytes, page)
    every = page // common  # the rows that fit lie so far apart
    inverse = pow(row_bytes // common, -1, every)
    places, end = list[int](), 0
    for count, offset in zip(counts, offsets, strict=True):
        if offset % common:
            return []
        # The first page of a file may hold bytes before its rows, the last page of the one before others.
        first = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE + offset % mmap.PAGESIZE
        least, fits = -(-first // row_bytes), offset // common * inverse % every
        places.append(least + (fits - least) % every)
        end = (places[-1] + count) * row_bytes
    return places


class AddressRange:
    """Room for the rows (V, C, H, W) of several files, whose files are mapped one by one.

    Raises: OSError where so many addresses can't be had.
    """

    def __init__(self, rows: int, shape: tuple[int, ...], raw: np.dtype) -> None:
        self._row_bytes = math.prod(shape) * raw.itemsize
        nbytes = rows * self._row_bytes + LARGE_PAGE
        try:
            reserved = mmap.mmap(-1, nbytes, flags=_ANONYMOUS, prot=0)
        except (ValueError, OverflowError) as error:
            raise OSError(str(error)) from error
        begin = -np.frombuffer(reserved, np.uint8, 1).ctypes.data % LARGE_PAGE
        # Whoever has a view of the array keeps the range; it goes with the last of them, files and all.
        self.rows: Raw = np.frombuffer(reserved, raw, rows * math.prod(shape), begin).reshape(rows, *shape)

    def map(self, fd: int, offset: int, slot: int, count: int) -> None:
        """Map `count` rows of a file, from byte `offset` on, to the rows from `slot` on. Raises: OSError."""
        before = offset % mmap.PAGESIZE
        address = self.rows.ctypes.data + slot * self._row_bytes - before
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        flags = mmap.MAP_PRIVATE | _MAP_FIXED | NORESERVE
        nbytes = before + count * self._row_bytes
        if _mmap()(address, nbytes, protection, flags, fd, offset - before) != address:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@cache
def _mmap() -> "ctypes._NamedFuncPointer":
    function = ctypes.CDLL(None, use_errno=True).mmap
    function.restype = ctypes.c_void_p
    integers = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *integers)
    return function
