"""Images that are files: read by their path below a folder."""

import os
import stat
from collections.abc import Sequence

from xxhash import xxh3_128_digest

from pipeline.datasets.base import ImageBytes
from pipeline.errors import DataError
from pipeline.images.decode import ImageError, decode


class FileReader:
    """Image files by their path below `base`, which ends with a slash."""

    in_memory = False

    def __init__(self, base: str, paths: tuple[str, ...]) -> None:
        self.base, self.paths = base, paths

    def read(self, row: int) -> ImageBytes:
        data = self._bytes(row)
        return ImageBytes(decode(data, self.base + self.paths[row]), xxh3_128_digest(data))

    def digest(self, row: int) -> bytes:
        return xxh3_128_digest(self._bytes(row))

    def take(self, rows: Sequence[int]) -> "FileReader":
        return FileReader(self.base, tuple(self.paths[row] for row in rows))

    def _bytes(self, row: int) -> bytes:
        path = self.base + self.paths[row]
        try:
            with open(path, "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise ImageError(path, f"can't be read: {error.strerror}") from error


def file_size(path: str, listed_in: str) -> int:
    """Size in bytes of an image that the file `listed_in` names.

    Raises: DataError when there is no such file, or it is a folder, a device, a pipe or a socket.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{listed_in}: the image {path} can't be read: {reason}; check its name") from error
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{listed_in}: expected the file of an image, found another thing at {path}")
    return status.st_size
