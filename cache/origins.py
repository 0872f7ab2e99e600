"""Files to be copied: in a store, by URL, or on another disk, by path. Read in pieces, several at a time."""

import functools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from cache.drivers import WEB, driver, scheme_of
from cache.errors import CacheError
from cache.remote import info, is_url, named_by_driver, read
from cache.retrying import named, retried

PIECE_BYTES, PIECES = 8 << 20, 8
"""How much is asked for at once, and how often: one stream alone fills no network."""


class NoPartsError(CacheError):
    """A server gives a file as a whole only."""


def beside(place: str, name: str) -> str:
    """The place of another file in the same folder."""
    return f"{place[: place.rfind('/') + 1]}{name}"


def inside(folder: str, name: str) -> str:
    """The place of a file in a folder."""
    return f"{folder.rstrip('/')}/{name}"


def size_of(place: str) -> int:
    """How many bytes a file has. Raises: OSError naming it, StoreError, CacheError where nobody says."""
    if not is_url(place):
        return os.stat(place).st_size
    found = info(place)
    if found.size is None:
        raise CacheError(f"{place}: expected a file of known size, the server doesn't say any")
    return found.size


def is_there(place: str) -> bool:
    """Whether there is such a file. Raises: OSError, StoreError when that can't be said."""
    try:
        size_of(place)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def whole(place: str) -> bytes:
    """All bytes of a small file. Raises: OSError naming it, StoreError."""
    if is_url(place):
        return read(place)
    with open(place, "rb") as file:
        return file.read()


def part(place: str, start: int, end: int) -> bytes:
    """Some bytes of a file. Raises: OSError naming it, StoreError, NoPartsError."""
    if not is_url(place):
        with open(place, "rb", buffering=0) as file:
            return os.pread(file.fileno(), end - start, start)
    if not _gives_parts(place):
        raise NoPartsError(f"{place}: the server gives whole files only")
    return read(place, start, end, size=end - start)


def pieces(place: str, start: int, size: int) -> Iterator[bytes]:
    """Yield the bytes from `start` to the end, in order, at most 8 MiB at a time.

    Raises: as `part`, where `start` isn't 0; CacheError when the file ends too early.
    """
    if is_url(place) and start < size and not _gives_parts(place):
        if start:
            raise NoPartsError(f"{place}: the server gives whole files only")
        yield from _streamed(place)
        return
    pool, under_way = ThreadPoolExecutor(PIECES), deque[Future[bytes]]()
    try:
        for at in range(start, size, PIECE_BYTES):
            under_way.append(pool.submit(part, place, at, min(at + PIECE_BYTES, size)))
            if len(under_way) == PIECES:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _streamed(place: str) -> Iterator[bytes]:
    """The bytes of a file on a server that doesn't give parts; what fails can't be continued."""
    fs = driver(place)
    try:
        with closing(fs.open(named_by_driver(fs, place), block_size=0)) as file:
            while data := file.read(PIECE_BYTES):
                yield data
    except Exception as error:
        raise named(error, place) from error


@functools.lru_cache(4096)
def _gives_parts(place: str) -> bool:
    """Whether a server gives a part of a file when asked for one, and not all of it."""
    if scheme_of(place) not in WEB:
        return True
    fs = driver(place)

    def look() -> bool:
        with closing(fs.open(named_by_driver(fs, place), block_size=1, cache_type="none")) as file:
            try:
                file.seek(1)
                return len(file.read(1)) == 1
            except ValueError:  # of fsspec, before it reads the whole file
                return False

    return retried(place, look)
