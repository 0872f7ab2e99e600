"""Files and folders of a dataset by path, on a disk or, by URL, in a store.

What is on a disk is read by the system's own calls. Both raise OSError that names the path; a store
StoreError as well: no driver, no credentials, no network.
"""

import io
import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from cache import Paths
from cache.remote import Entry, entries, info, is_url, plain_url, read, side_by_side
from pipeline.progress import Progress


class FarEntry(NamedTuple):
    """A file or folder of a store, as `os.scandir` would give it."""

    entry: Entry

    @property
    def name(self) -> str:
        return self.entry.url.rpartition("/")[2]

    @property
    def path(self) -> str:
        return self.entry.url

    def is_dir(self) -> bool:
        return self.entry.is_folder


AnyEntry = os.DirEntry[str] | FarEntry


def place(path: str) -> str:
    """A path with the home folder for a ~ at its beginning, or a URL without percent signs.

    Raises: StoreError for a URL that holds a password or more than a place.
    """
    return plain_url(path) if is_url(path) else os.path.expanduser(path)


def listed(folder: str) -> Iterator[AnyEntry]:
    """What is in a folder, in any order."""
    if is_url(folder):
        yield from map(FarEntry, entries(folder))
        return
    with os.scandir(folder) as found:
        yield from found


def is_there(path: str) -> bool:
    """Whether there is a file, folder or link at a path."""
    if not is_url(path):
        return os.path.lexists(path)
    try:
        info(path)
    except FileNotFoundError:
        return False
    return True


def read_bytes(path: str) -> bytes:
    """All bytes of a file."""
    if is_url(path):
        return read(path)
    with open(path, "rb") as file:
        return file.read()


def open_text(path: str, encoding: str, newline: str | None = None) -> TextIO:
    """A file's text, to be closed."""
    if is_url(path):
        return io.TextIOWrapper(io.BytesIO(read(path)), encoding, newline=newline)
    return open(path, encoding=encoding, newline=newline)


def status_of(found: os.stat_result | Entry) -> tuple[int, int, int]:
    """Size, inode and time of the last change (ns), as int64 has room for. In a store its version of the file
    stands for the inode, and a size that isn't known yet is -1."""
    if isinstance(found, Entry):
        return -1 if found.size is None else found.size, found.version, found.changed
    return found.st_size, found.st_ino & (1 << 63) - 1, found.st_ctime_ns


def far_statuses(urls: Sequence[str]) -> tuple[NDArray[np.int64], dict[int, OSError]]:
    """The `status_of` each file of a store, (n, 3), and row → error of those that can't be had.

    Many are asked for at once. Raises: StoreError.
    """
    statuses, errors = np.full((len(urls), 3), -1, np.int64), dict[int, OSError]()
    with Progress("asking for sizes", len(urls), "files") as progress:
        for row, found in enumerate(side_by_side(_asked, urls)):
            if isinstance(found, OSError):
                errors[row] = found
            else:
                statuses[row] = status_of(found)
            progress.advance()
    return statuses, errors


def with_sizes(base: str, paths: Sequence[str] | Paths, status_N3: NDArray[np.int64]) -> NDArray[np.int64]:
    """The statuses of files below `base` with the sizes that a store didn't say when it listed them.

    Raises: OSError naming a file that can't be had, StoreError.
    """
    if (rows := np.flatnonzero(status_N3[:, 0] < 0)).size:
        status_N3[rows], errors = far_statuses([base + paths[row] for row in rows.tolist()])
        for error in errors.values():
            raise error
    return status_N3


def _asked(url: str) -> Entry | OSError:
    try:
        found = info(url)
        if found.size is None:  # of a page that its server makes on the way
            return found._replace(size=len(read(url)))
        return found
    except OSError as error:
        return error
