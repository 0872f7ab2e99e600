"""One published file, held open from its opening on, so that its name can't come to mean another file unseen.

A file system gives a deleted file's number to the next one at once, of the same size perhaps. While a file is
open its number stays taken, so number and device tell it from every other one; size and time of the last
change tell whether somebody wrote into it.
"""

import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cache.contents import open_file, opened, read_published
from cache.errors import CacheError


class HeldFile:
    """A cache's file and what stands in it. The descriptor goes with the object.

    fingerprint: as `Contents.fingerprint`, that of the file expected; None takes any cache.

    Raises: CacheError as `read_published`, or when it is missing, or another file than expected.
    """

    def __init__(self, path: Path, fingerprint: bytes | None) -> None:
        _refuse_absent(path)
        self.path, self._fd = path, open_file(path)
        weakref.finalize(self, os.close, self._fd)
        self._id = _id(self._fd)
        self.contents = read_published(self._fd, str(path))
        if fingerprint not in (None, self.contents.fingerprint):
            raise self._replaced()

    @contextmanager
    def opened(self) -> Iterator[int]:
        """A descriptor for reading, of its own. Raises: CacheError when the path leads to another file."""
        with opened(self.path) as fd:
            if _id(fd) != self._id:
                raise self._replaced()
            yield fd

    def refuse_changed(self) -> None:
        """Raises: CacheError when somebody wrote into the file, whatever its name leads to by now."""
        if _id(self._fd) != self._id:
            raise self._replaced()

    def _replaced(self) -> CacheError:
        return CacheError(
            f"{self.path}: another file took its place since it was opened, or somebody wrote into it; "
            "open it again, or run the same command again"
        )


def _id(fd: int) -> tuple[int, int, int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _refuse_absent(path: Path) -> None:
    if path.exists() and path.suffix != ".part":
        return
    is_begun = path.exists() or path.with_name(path.name + ".part").exists()
    state = (
        "not complete yet; run the same extraction again, it goes on where it stopped"
        if is_begun
        else "no such file; run extract_features.py to make it"
    )
    raise CacheError(f"{path}: {state}")
