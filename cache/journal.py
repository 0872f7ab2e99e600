"""The journal of a file that is being written: which blocks are there (FORMAT.md §5 and §6).

A system that fails to bring a page to the medium says so once, and takes it for written from then on: read
back, it is what it should be, until the memory is needed for something else. So blocks that no sync has
covered are struck out when one fails, for their digests prove nothing.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from cache import disk
from cache.format import DIGEST_BYTES, DIGESTS, Layout


class Journal:
    """Adds blocks' digests to an open file, and brings all to the medium behind the writer's back.

    unsynced: blocks that are there already, and may not be on the medium.
    """

    def __init__(self, fd: int, layout: Layout, unsynced: Iterable[int] = ()) -> None:
        self._fd, self._offset = fd, layout[DIGESTS].offset
        self._syncing = disk.BackgroundSync(fd)
        self._covered, self._since = list[int](), list(unsynced)  # by the last sync that began, and after it

    def add(self, block: int, digest: bytes) -> None:
        """Say that a block is there. Raises: OSError, also of an earlier sync."""
        self._write(block, digest)
        self._since.append(block)
        with self._striking_out():
            if self._syncing.start():
                self._covered, self._since = self._since, []

    def sync(self) -> None:
        """Returns when every block is on the medium. Raises: OSError."""
        with self._striking_out():
            self._syncing.finish()
            self._covered = []
            disk.sync(self._fd)
        self._since = []

    def close(self) -> None:
        """Returns when the file isn't needed any more."""
        self._syncing.close()
        with suppress(OSError), self._striking_out():
            self._syncing.finish()

    @contextmanager
    def _striking_out(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            for block in self._covered + self._since:
                self._write(block, bytes(DIGEST_BYTES))
            raise

    def _write(self, block: int, digest: bytes) -> None:
        disk.write_all(self._fd, digest, self._offset + block * DIGEST_BYTES)
