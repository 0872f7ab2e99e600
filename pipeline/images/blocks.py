"""Read, decode and transform images ahead of the trunk, in parallel and in order.

Legend: n rows of a block, S = image_px.
"""

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from itertools import islice
from typing import TypeVar

import numpy as np

from pipeline.datasets.base import ImageSplit
from pipeline.errors import DataError
from pipeline.images.ahead import read_ahead
from pipeline.images.cut import Cut, cut
from pipeline.images.decode import ImageError
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform
from pipeline.progress import Progress

T = TypeVar("T")
Decoded = tuple[range, np.ndarray, np.ndarray]

TASK_IMAGES = 256
TASK_BYTES = 4 << 20
"""A task has at most so many images and bytes: enough work for one hand-over, little to hold and wait for."""


def decode_blocks(
    split: ImageSplit, blocks: Sequence[range], transform: Transform, decoders: Decoders
) -> Generator[Decoded]:
    """Yield each range of rows, in order: (rows, images (n, 3, S, S) uint8, digests (n, 16) uint8).

    While the caller works on one the next is decoded, and little more. Closing the iterator, or
    leaving it by an exception, drops what has not begun.

    Raises: DataError naming the first image that can't be decoded.
    """
    for rows, done in _block_by_block(_decode, split, blocks, transform, decoders):
        images, digests = zip(*done, strict=True)
        yield rows, np.concatenate(images), np.concatenate(digests)


def decode_cuts(
    split: ImageSplit, blocks: Sequence[range], transform: Transform, decoders: Decoders
) -> Generator[tuple[range, np.ndarray | list[Cut], np.ndarray]]:
    """As `decode_blocks`, but leaves resizing to others: a list of n images where one has to be resized."""
    for rows, done in _block_by_block(_decode_cuts, split, blocks, transform, decoders):
        parts, digests = zip(*done, strict=True)
        yield rows, _joined(parts), np.concatenate(digests)


def decode_sound(
    split: ImageSplit, blocks: Sequence[range], transform: Transform, decoders: Decoders
) -> Generator[tuple[range, np.ndarray, dict[int, str]]]:
    """As `decode_blocks`, but passes over bad images: (rows, images of the others, row → reason of the bad).

    A reason names no path.
    """
    for rows, done in _block_by_block(_decode_sound, split, blocks, transform, decoders):
        bad, at = dict[int, str](), rows.start
        for count, _, reasons in done:
            bad |= {at + place: reason for place, reason in reasons}
            at += count
        yield rows, np.concatenate([images for _, images, _ in done]), bad


def _block_by_block(
    work: Callable[[ImageSplit, Transform], T],
    split: ImageSplit,
    blocks: Sequence[range],
    transform: Transform,
    decoders: Decoders,
) -> Generator[tuple[range, list[T]]]:
    """Yield each range of rows with what `work` gives for its parts, in order."""
    tasks_of = [_tasks(rows, split, transform) for rows in blocks]
    ahead = max(map(len, tasks_of), default=0) + 2 * decoders.count
    with (
        contextlib.closing(read_ahead(split, [rows for tasks in tasks_of for rows in tasks])) as parts,
        contextlib.closing(decoders.in_order(work, ((part, transform) for part in parts), ahead)) as done,
    ):
        for rows, tasks_of_block in zip(blocks, tasks_of, strict=True):
            yield rows, list(islice(done, len(tasks_of_block)))


def find_bad(split: ImageSplit, transform: Transform, decoders: Decoders) -> list[tuple[int, str]]:
    """Every row whose image can't be read or decoded, with the reason (which names no path)."""
    ranges = _tasks(range(len(split)), split, transform)
    bad: list[tuple[int, str]] = []
    with (
        Progress(f"looking for bad images in {split.split}", len(split), "images") as progress,
        contextlib.closing(read_ahead(split, ranges)) as parts,
        contextlib.closing(
            decoders.in_order(_reasons, ((part, transform) for part in parts), 2 * decoders.count)
        ) as found,
    ):
        for rows, reasons in zip(ranges, found, strict=True):
            bad += [(rows[i], reason) for i, reason in reasons]
            progress.advance(len(rows))
    return bad


def digests(split: ImageSplit, decoders: Decoders) -> Generator[tuple[range, np.ndarray]]:
    """Yield the digests (n, 16) uint8 of some rows after the other, in order. Raises: DataError."""
    step = min(max(TASK_BYTES * len(split) // max(int(split.sizes.sum()), 1), 1), TASK_IMAGES)
    ranges = [range(len(split))[at : at + step] for at in range(0, len(split), step)]
    with (
        contextlib.closing(read_ahead(split, ranges)) as parts,
        contextlib.closing(
            decoders.in_order(_digests, ((part,) for part in parts), 2 * decoders.count)
        ) as found,
    ):
        yield from zip(ranges, found, strict=True)


def _tasks(rows: range, split: ImageSplit, transform: Transform) -> list[range]:
    image_bytes = max(3 * transform.image_px**2, int(split.sizes.mean()) if len(split) else 0)
    step = min(max(TASK_BYTES // image_bytes, 1), TASK_IMAGES)
    return [rows[at : at + step] for at in range(0, len(rows), step)]


def _decode(split: ImageSplit, transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    size = transform.image_px
    images_NCHW = np.empty((len(split), 3, size, size), np.uint8)
    digests = bytearray()
    for row in range(len(split)):
        images_NCHW[row], digest = _decode_one(split, row, transform.apply)
        digests += digest
    return images_NCHW, np.frombuffer(digests, np.uint8).reshape(-1, 16)


def _decode_cuts(split: ImageSplit, transform: Transform) -> tuple[np.ndarray | list[Cut], np.ndarray]:
    """An array of inputs where all are there, as it travels faster."""
    make = functools.partial(cut, transform=transform)
    cuts, digests = zip(*(_decode_one(split, row, make) for row in range(len(split))), strict=True)
    are_inputs = all(image.size is None for image in cuts)
    images = np.stack([image.pixels for image in cuts]) if are_inputs else list(cuts)
    return images, np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16)


def _joined(parts: Sequence[np.ndarray | list[Cut]]) -> np.ndarray | list[Cut]:
    arrays = [part for part in parts if isinstance(part, np.ndarray)]
    if len(arrays) == len(parts):
        return np.concatenate(arrays)
    return [image if isinstance(image, Cut) else Cut(image, None) for part in parts for image in part]


def _decode_sound(split: ImageSplit, transform: Transform) -> tuple[int, np.ndarray, list[tuple[int, str]]]:
    """How many images there are, those that can be decoded, and the place and reason of each other one."""
    size = transform.image_px
    images_NCHW, bad, done = np.empty((len(split), 3, size, size), np.uint8), [], 0
    for row in range(len(split)):
        try:
            images_NCHW[done], _ = _decode_one(split, row, transform.apply)
            done += 1
        except ImageError as error:
            bad.append((row, error.reason))
    return len(split), images_NCHW[:done], bad


def _digests(split: ImageSplit) -> np.ndarray:
    joined = b"".join(map(split.images.digest, range(len(split))))
    return np.frombuffer(joined, np.uint8).reshape(-1, 16)


def _reasons(split: ImageSplit, transform: Transform) -> list[tuple[int, str]]:
    bad = []
    for row in range(len(split)):
        try:
            _decode_one(split, row, transform.apply)
        except ImageError as error:
            bad.append((row, error.reason))
    return bad


def _decode_one(split: ImageSplit, row: int, make: Callable[[np.ndarray], T]) -> tuple[T, bytes]:
    """What is made of an image (H, W, 3) for the trunk, and its digest. Raises: ImageError."""
    image = split.images.read(row)
    try:
        return make(image.pixels), image.digest
    except DataError as error:
        raise ImageError(split.paths[row], str(error)) from error
