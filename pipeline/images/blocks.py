"""Read, decode and transform images ahead of the trunk, in parallel and in order.

Legend: n rows of a block, S = image_px.
"""

import contextlib
from collections.abc import Callable, Generator, Sequence
from itertools import chain
from typing import TypeVar

import numpy as np

from pipeline.datasets.base import ImageBytes, ImageSplit
from pipeline.engines.processes import in_order
from pipeline.errors import DataError
from pipeline.images.decode import ImageError
from pipeline.images.decoders import Decoders
from pipeline.images.transform import Transform

T = TypeVar("T")
Decoded = tuple[range, np.ndarray, np.ndarray]

TASK_IMAGES = 256
TASK_BYTES = 4 << 20
"""Of a task's images, encoded or decoded: much to do for one hand-over, little to hold and to wait for."""


def decode_blocks(
    split: ImageSplit, blocks: Sequence[range], transform: Transform, decoders: Decoders
) -> Generator[Decoded]:
    """Decode blocks of rows, in order: (rows, images (n, 3, S, S) uint8, digests (n, 16) uint8) of each.

    While the caller works on a block the next one is decoded, and little more than that. Closing the
    iterator, or leaving it by an exception, drops what has not begun.

    Raises: DataError naming the first image that can't be decoded.
    """
    step = _task_images(split, transform)
    tasks_of = [[rows[at : at + step] for at in range(0, len(rows), step)] for rows in blocks]
    ahead = max(map(len, tasks_of), default=0)
    with contextlib.closing(
        _map(_decode, split, list(chain(*tasks_of)), transform, decoders, ahead)
    ) as decoded:
        for rows, tasks in zip(blocks, tasks_of, strict=True):
            images, digests = zip(*(next(decoded) for _ in tasks), strict=True)
            yield rows, np.concatenate(images), np.concatenate(digests)


def find_bad(split: ImageSplit, transform: Transform, decoders: Decoders) -> list[tuple[int, str]]:
    """Every row whose image can't be read or decoded, with the reason (which names no path)."""
    step = _task_images(split, transform)
    tasks = [range(at, min(at + step, len(split))) for at in range(0, len(split), step)]
    with contextlib.closing(_map(_reasons, split, tasks, transform, decoders, ahead=0)) as found:
        return [(rows[i], reason) for rows, bad in zip(tasks, found, strict=True) for i, reason in bad]


def _task_images(split: ImageSplit, transform: Transform) -> int:
    image_bytes = max(3 * transform.image_px**2, int(split.sizes.mean()) if len(split) else 0)
    return min(max(TASK_BYTES // image_bytes, 1), TASK_IMAGES)


def _map(
    work: Callable[[ImageSplit, Transform], T],
    split: ImageSplit,
    tasks: Sequence[range],
    transform: Transform,
    decoders: Decoders,
    ahead: int,
) -> Generator[T]:
    """`work` on each task's rows, in order; `ahead` tasks more than the decoders need."""
    parts = ((split.take(rows), transform) for rows in tasks)
    return in_order(work, parts, decoders.pool, ahead + 2 * decoders.count)


def _decode(split: ImageSplit, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    size = transform.image_px
    images_NCHW = np.empty((len(split), 3, size, size), np.uint8)
    digests = bytearray()
    for row in range(len(split)):
        images_NCHW[row], digest = _decode_one(split, row, transform)
        digests += digest
    return images_NCHW, np.frombuffer(digests, np.uint8).reshape(-1, 16)


def _reasons(split: ImageSplit, transform: Transform) -> list[tuple[int, str]]:
    bad = []
    for row in range(len(split)):
        try:
            _decode_one(split, row, transform)
        except ImageError as error:
            bad.append((row, error.reason))
    return bad


def _decode_one(split: ImageSplit, row: int, transform: Transform) -> ImageBytes:
    """The image as the trunk takes it, (3, S, S). Raises: ImageError."""
    image = split.images.read(row)
    try:
        return image._replace(pixels=transform.apply(image.pixels))
    except DataError as error:
        raise ImageError(split.paths[row], str(error)) from error
