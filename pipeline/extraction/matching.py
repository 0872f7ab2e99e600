"""Images of one list in another one: by path, or by the digest of their files.

Legend: N images that are looked for, M among which. A row is that of the first that fits, -1 without one.
"""

import numpy as np
from numpy.typing import NDArray

from cache import Paths

Found = NDArray[np.int64]


def rows_by_path(paths: Paths, among: Paths) -> Found:
    """(N,) the row of each path."""
    if paths == among:
        return np.arange(len(paths))
    rows = _rows(_hashes(paths), _hashes(among))
    there = np.flatnonzero(rows >= 0)
    if paths.take(there) != among.take(rows[there]):  # paths of one hash: those of images that are new
        names = zip(there.tolist(), rows[there].tolist(), strict=True)
        rows[[at for at, row in names if paths[at] != among[row]]] = -1
    return rows


def rows_by_digest(digests: NDArray[np.uint8], among: NDArray[np.uint8]) -> Found:
    """(N,) the row of each digest, (N, 16) in (M, 16)."""
    digests, among = np.ascontiguousarray(digests), np.ascontiguousarray(among)
    rows = _rows(*(each.view(np.int64)[:, 0] for each in (digests, among)))
    rows[(among[rows] != digests).any(1)] = -1  # of the same half
    return rows


def _rows(wanted: Found, known: Found) -> Found:
    """(N,) the first row of each number."""
    if not known.size:
        return np.full(len(wanted), -1)
    order = np.argsort(known, kind="stable")
    rows = order[np.searchsorted(known[order], wanted).clip(max=len(known) - 1)]
    return np.where(known[rows] == wanted, rows, -1)


def _hashes(paths: Paths) -> Found:
    return np.fromiter(map(hash, paths), np.int64, len(paths))
