"""Fetch image files of a store ahead of the decoders, with many requests under way at once.

A store answers after some tens of milliseconds, whatever it is asked for: one request after the other, a few
threads would get a hundred images a second. The processes that decode get bytes, and need no store.
"""

import dataclasses
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from xxhash import xxh3_128_digest

from cache.drivers import REQUESTS
from pipeline.datasets.base import ImageBytes, ImageSplit, Rows
from pipeline.datasets.files import FileReader
from pipeline.images.decode import ImageError, decode
from pipeline.wording import shown

AHEAD_IMAGES, AHEAD_BYTES = 8 * REQUESTS, 128 << 20
"""Images, and bytes of them, from which no more are asked for before the first of them were taken."""


class FetchedImages:
    """Reads images whose encoded bytes are in memory; of one that couldn't be fetched, there is the error."""

    in_memory = False

    def __init__(self, names: Sequence[str], files: Sequence[bytes | ImageError]) -> None:
        self._names, self._files = names, files

    def read(self, row: int) -> ImageBytes:
        data = self._bytes(row)
        return ImageBytes(decode(data, self._names[row]), xxh3_128_digest(data))

    def digest(self, row: int) -> bytes:
        return xxh3_128_digest(self._bytes(row))

    def take(self, rows: Rows) -> "FetchedImages":
        return FetchedImages([self._names[row] for row in rows], [self._files[row] for row in rows])

    def statuses(self) -> None:
        return None

    def _bytes(self, row: int) -> bytes:
        found = self._files[row]
        if isinstance(found, ImageError):
            raise found
        return found


def read_ahead(split: ImageSplit, ranges: Sequence[range]) -> Generator[ImageSplit]:
    """Yield the rows of each range, in order; where they lie in a store, with their bytes.

    Raises: StoreError when the store can't be used any more: an image is not to blame for that.
    """
    images = split.images
    if not isinstance(images, FileReader) or not images.is_far:
        yield from map(split.take, ranges)
        return
    pool, under_way = ThreadPoolExecutor(REQUESTS), deque[tuple[range, list[Future[bytes | ImageError]]]]()
    waiting, count, size = deque(ranges), 0, 0
    try:
        while waiting or under_way:
            while waiting and (not under_way or (count < AHEAD_IMAGES and size < AHEAD_BYTES)):
                rows = waiting.popleft()
                under_way.append((rows, [pool.submit(_fetched, images, row) for row in rows]))
                count, size = count + len(rows), size + _bytes_of(split, rows)
            rows, files = under_way.popleft()
            names = [shown(images.base + images.paths[row]) for row in rows]
            fetched = FetchedImages(names, [file.result() for file in files])
            count, size = count - len(rows), size - _bytes_of(split, rows)
            yield dataclasses.replace(split.take(rows), images=fetched)
    finally:
        pool.shutdown(cancel_futures=True)


def _fetched(images: FileReader, row: int) -> bytes | ImageError:
    try:
        return images.bytes_of(row)
    except ImageError as error:
        return error


def _bytes_of(split: ImageSplit, rows: range) -> int:
    return int(split.sizes[rows.start : rows.stop].sum())
