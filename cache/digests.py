"""Digests: of the header, of blocks, and the check of a file against them (FORMAT.md §4 and §5).

Blocks are read with pread and not through the memory map: a bad sector or a file that was cut off is then an
error message and not a SIGBUS. The pieces stay in the processor's cache, so the copy costs next to nothing,
and both pread and xxh3 let other threads run.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache.disk import read_into
from cache.errors import CacheError
from cache.format import FEATURES, HEADER_DATASETS, IMAGE_DIGESTS, Layout

_PIECE = 1 << 18
_THREADS = 16  # at most: some of them wait for a disk
Buffer = bytes | bytearray | memoryview


def header_digest(layout: Layout, parts: dict[str, bytes]) -> bytes:
    """16 bytes over shape and dtype of the features and the header's datasets, as they lie in the file."""
    start = f"{layout.signature}\n{FEATURES} {layout.dtype.name} {_listed(layout.shape)}\n"
    state = xxhash.xxh3_128(start.encode())
    for name in HEADER_DATASETS:
        state.update(f"{name} {_listed(layout[name].shape)} {layout[name].item}\n".encode())
        state.update(parts[name])
    return state.digest()


def images_digest(fd: int, layout: Layout) -> bytes:
    """32 bytes over the digests of all images. Raises: OSError, EOFError when the file can't be read."""
    state, extent = hashlib.sha256(), layout[IMAGE_DIGESTS]
    for piece in _pieces(fd, [(extent.offset, extent.nbytes)]):
        state.update(piece)
    return state.digest()


def _listed(shape: tuple[int, ...]) -> str:
    return ",".join(str(n) for n in shape)


def block_digest(block: int, pieces: Iterable[Buffer]) -> bytes:
    """16 bytes over a block's features and then its image digests, in pieces of any size."""
    state = block_state(block)
    for piece in pieces:
        state.update(piece)
    return state.digest()


def block_state(block: int) -> xxhash.xxh3_128:
    """What becomes the digest of a block, once it is given all of the block's bytes in order."""
    return xxhash.xxh3_128(seed=block)


def block_spans(layout: Layout, block: int) -> list[tuple[int, int]]:
    """Where a block's features and image digests lie: (offset, bytes) of each."""
    rows = layout.block(block)
    row_bytes = ((FEATURES, layout.row_bytes), (IMAGE_DIGESTS, layout[IMAGE_DIGESTS].shape[1]))
    return [(layout[name].offset + rows.start * size, len(rows) * size) for name, size in row_bytes]


def damaged_blocks(
    fd: int, layout: Layout, digests: NDArray[np.uint8], blocks: Iterable[int], threads: int = _THREADS
) -> Iterator[int]:
    """Those of `blocks` that don't match their digest, as they are found, by so many threads at most.

    Raises: OSError, EOFError when the file can't be read.
    """

    def is_damaged(block: int) -> bool:
        return block_digest(block, _pieces(fd, block_spans(layout, block))) != digests[block].tobytes()

    blocks = list(blocks)
    if threads == 1:
        yield from filter(is_damaged, blocks)
        return
    pool = ThreadPoolExecutor(min(threads, os.cpu_count() or 1, max(1, len(blocks))))
    try:
        for block, damaged in zip(blocks, pool.map(is_damaged, blocks), strict=True):
            if damaged:
                yield block
    finally:
        pool.shutdown(cancel_futures=True)


def check_blocks(
    fd: int,
    layout: Layout,
    digests: NDArray[np.uint8],
    blocks: Iterable[int],
    file: str,
    threads: int = _THREADS,
) -> None:
    """Raises: CacheError naming the file and the first block that doesn't match its digest."""
    try:
        for block in damaged_blocks(fd, layout, digests, blocks, threads):
            rows = layout.block(block)
            raise CacheError(
                f"{file}: damaged: block {block} (rows {rows.start} to {rows.stop - 1}) doesn't match its "
                "digest; delete the file and extract again"
            )
    except (OSError, EOFError) as error:
        raise CacheError(f"{file}: can't be read: {error}") from error


def _pieces(fd: int, spans: list[tuple[int, int]]) -> Iterator[memoryview]:
    """The bytes of spans of a file. One buffer holds each piece in turn."""
    buffer = memoryview(bytearray(_PIECE))
    for offset, nbytes in spans:
        for at in range(0, nbytes, _PIECE):
            piece = buffer[: min(_PIECE, nbytes - at)]
            read_into(fd, piece, offset + at)
            yield piece
