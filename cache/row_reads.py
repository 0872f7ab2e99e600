"""Read rows of a file into an array, many requests at a time: a disk answers several as fast as one."""

import os

import numpy as np
from numpy.typing import NDArray

from cache.disk import read_into
from cache.dtypes import Raw


def read_rows(fd: int, offset: int, index: NDArray[np.intp], out: Raw) -> None:
    """out[i] ← row index[i] of the rows that begin at `offset`, each as long as out[i].

    The system is told of all rows before the first is waited for. Rows that follow each other in the file and
    in `out` are read in one go. Raises: OSError, EOFError when the file ends before.
    """
    if not index.size:
        return
    size, view = out.nbytes // index.size, out.reshape(-1).view(np.uint8).data
    begins = np.concatenate([[0], np.flatnonzero(np.diff(index) != 1) + 1, [index.size]])
    spans = [*zip((size * begins[:-1]).tolist(), (size * begins[1:]).tolist(), strict=True)]
    places = (offset + size * index[begins[:-1]]).tolist()
    if hasattr(os, "posix_fadvise"):
        for place, (begin, end) in sorted(zip(places, spans, strict=True)):  # the way a disk likes it
            os.posix_fadvise(fd, place, end - begin, os.POSIX_FADV_WILLNEED)
    for (begin, end), place in zip(spans, places, strict=True):
        read_into(fd, view[begin:end], place)
