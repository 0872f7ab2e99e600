"""Images that are files, on a disk or in a store: read by their path below a folder."""

import contextlib
import os
import posixpath
import stat
import unicodedata
from array import array
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from cache import Paths
from cache.remote import is_url, read
from pipeline.datasets.base import ImageBytes, Rows
from pipeline.datasets.places import far_statuses, is_there, status_of
from pipeline.errors import DataError
from pipeline.images.decode import ImageError, decode
from pipeline.wording import shown


class FileReader:
    """Image files by their path below `base`, which ends with a slash."""

    in_memory = False

    def __init__(self, base: str, paths: Paths, statuses: NDArray[np.int64] | None = None) -> None:
        """statuses: (N, 3), where they were asked for already; see `ImageReader`."""
        self.base, self.paths, self._statuses = base, paths, statuses
        self.is_far = is_url(base or next(iter(paths), ""))
        """Whether each file is a request to a store, of which many should be under way at once."""

    def read(self, row: int) -> ImageBytes:
        data = self.bytes_of(row)
        return ImageBytes(decode(data, shown(self.base + self.paths[row])), xxh3_128_digest(data))

    def digest(self, row: int) -> bytes:
        return xxh3_128_digest(self.bytes_of(row))

    def take(self, rows: Rows) -> "FileReader":
        statuses = None if self._statuses is None else self._statuses[rows]
        return FileReader(self.base, self.paths.take(rows), statuses)

    def statuses(self) -> NDArray[np.int64]:
        if self._statuses is None and self.is_far:
            self._statuses, errors = far_statuses([self.base + path for path in self.paths])
            for row, error in errors.items():
                raise _unreadable(self.base + self.paths[row], error)
        if self._statuses is None:
            found = array("q")
            for path in self.paths:
                try:
                    found.extend(status_of(os.stat(self.base + path)))
                except OSError as error:
                    raise _unreadable(self.base + path, error) from error
            self._statuses = np.frombuffer(found, np.int64).reshape(-1, 3)
        return self._statuses

    def bytes_of(self, row: int) -> bytes:
        """The encoded image. Raises: ImageError when there is none; StoreError when a store can't be used."""
        path = self.base + self.paths[row]
        try:
            if self.is_far:
                return read(path, size=None if self._statuses is None else int(self._statuses[row, 0]))
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> ImageError:
    return ImageError(shown(path), f"can't be read: {error.strerror}")


def reader_of(
    base: str, paths: Paths, listed_in: Callable[[int], str]
) -> tuple[NDArray[np.int64], FileReader]:
    """Sizes (N,) in bytes and a reader of images that a table names, of each of which it says where.

    Raises: DataError when there is no such file, or it is a folder, a device, a pipe or a socket.
    """
    if not is_url(base):
        sizes = [file_size(base + path, listed_in(row)) for row, path in enumerate(paths)]
        return np.array(sizes, np.int64), FileReader(base, paths)
    statuses, errors = far_statuses([base + path for path in paths])
    for row, error in errors.items():
        raise DataError(
            f"{listed_in(row)}: the image {shown(base + paths[row])} can't be read: {error.strerror}; "
            "check its name"
        ) from error
    return statuses[:, 0].copy(), FileReader(base, paths, statuses)


def written_path(base: str, written: str) -> str:
    """The path below `base`, with forward slashes, of an image that is listed in a file.

    Spaces at its ends and backslashes are as they are written if there is such a file; else the spaces are
    dropped, and backslashes are the slashes of another system.

    Raises: ValueError when it is none, or not below `base`.
    """
    mended = written.strip().replace("\\", "/")
    path = written if mended == written or is_there(base + written.replace("\0", "")) else mended
    if path.startswith("/") and not is_url(base):
        path = path.removeprefix(os.path.join(os.path.abspath(base), ""))
    if not path or "\0" in path or path.startswith("/") or ".." in path.split("/"):
        raise ValueError(f"expected the path of an image below the folder {base or './'}, found {written!r}")
    return posixpath.normpath(path)


def file_size(path: str, listed_in: str) -> int:
    """Size in bytes of an image that the file `listed_in` names.

    Raises: DataError when there is no such file, or it is a folder, a device, a pipe or a socket.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{listed_in}: the image {shown(path)} can't be read: {reason}; {_advice(path)}"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{listed_in}: expected the file of an image, found another thing at {shown(path)}")
    return status.st_size


def _advice(path: str) -> str:
    """What to do about a file that isn't there: its name may differ in case, spaces or Unicode's forms, or
    lack a suffix; or it is in a folder beside it."""
    folder, name = os.path.split(path)
    with contextlib.suppress(OSError, ValueError):
        found = os.listdir(folder or ".")
        twins = [other for other in found if alike(other) == alike(name) != ""]
        if twins := twins or [other for other in found if os.path.splitext(other)[0] == name]:
            return f"there is {min(twins)!r}; write it like that"
        if inside := [other for other in found if os.path.isfile(os.path.join(folder, other, name))]:
            there = f"{min(inside)}/{name}"
            return f"there is {there!r}; write it like that, or move the table into {min(inside)}/"
    return "check its name"


def alike(name: str) -> str:
    """What names have in common that differ only in case, spaces or Unicode's normal forms."""
    return "".join(unicodedata.normalize("NFKC", name).casefold().split())
