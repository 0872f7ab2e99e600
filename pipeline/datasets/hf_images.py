"""Images in the tables of the `datasets` library, as they were encoded."""

import os
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from pipeline.datasets.base import ImageBytes, Rows
from pipeline.datasets.places import status_of
from pipeline.images.decode import ImageError, decode

if TYPE_CHECKING:
    from datasets import Dataset

AT_ONCE = 1000
"""Rows whose bytes are looked at together."""


class HubImages:
    """The images of one column, by row: `bytes`, or a file that `path` names."""

    in_memory = False

    def __init__(
        self, data: "Dataset", sizes: NDArray[np.int64], where: str, rows: NDArray[np.int64] | None = None
    ) -> None:
        """data: has that column alone, not decoded. sizes: of all its rows. where: the set, for messages."""
        self._data, self._sizes, self._where = data, sizes, where
        self._rows = np.arange(len(data)) if rows is None else rows

    def read(self, row: int) -> ImageBytes:
        data = self._bytes(row)
        return ImageBytes(decode(data, self._name(row)), xxh3_128_digest(data))

    def digest(self, row: int) -> bytes:
        return xxh3_128_digest(self._bytes(row))

    def take(self, rows: Rows) -> "HubImages":
        return HubImages(self._data, self._sizes, self._where, self._rows[rows])

    def statuses(self) -> NDArray[np.int64] | None:
        """(N, 3): of each image the size, and inode and time of change of the table's newest file."""
        files = [os.stat(file["filename"]) for file in self._data.cache_files]
        if not files:
            return None
        status_N3 = np.empty((len(self._rows), 3), np.int64)
        status_N3[:] = status_of(max(files, key=lambda file: file.st_ctime_ns))
        status_N3[:, 0] = self._sizes[self._rows]
        return status_N3

    def _name(self, row: int) -> str:
        return f"{self._where}, row {self._rows[row]}"

    def _bytes(self, row: int) -> bytes:
        (value,) = self._data[int(self._rows[row])].values()
        found, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if found is None and path is None:
            raise ImageError(self._name(row), "there is no image in this row")
        try:
            return found if found is not None else _file(str(path))
        except OSError as error:
            raise ImageError(f"{self._name(row)}, {path}", f"can't be read: {error.strerror}") from error


def described(data: "Dataset") -> tuple[NDArray[np.int64], list[str]]:
    """Bytes of each image of a table with a column of images alone, (N,), and its file's name or ""."""
    from pyarrow.compute import binary_length  # pyright: ignore[reportAttributeAccessIssue]

    sizes, names = array("q"), list[str]()
    tables: Any = data.with_format("arrow").iter(AT_ONCE)
    for table in tables:
        column = table.column(0).combine_chunks()
        is_struct = hasattr(column, "field")
        found = binary_length(column.field("bytes") if is_struct else column).to_pylist()
        paths = column.field("path").to_pylist() if is_struct else [None] * len(found)
        for size, path in zip(found, paths, strict=True):
            sizes.append(size if size is not None else os.path.getsize(path) if path else 0)
            names.append(os.path.basename(path or ""))
    return np.frombuffer(sizes, np.int64), names


def _file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
