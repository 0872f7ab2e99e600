"""Read, decode and transform images ahead of the trunk, in processes.

Legend: n rows of a block, S = image_px.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.datasets.base import ImageSplit
from pipeline.errors import DataError
from pipeline.transform import Transform

Decoded = tuple[range, np.ndarray, np.ndarray]


def decode_blocks(
    split: ImageSplit, blocks: Sequence[range], transform: Transform, *, workers: int
) -> Iterator[Decoded]:
    """For each block its rows, their images (n, 3, S, S) uint8 and digests (n, 16) uint8, in order."""
    for rows in blocks:
        size = transform.image_px
        images_NCHW = np.empty((len(rows), 3, size, size), np.uint8)
        digests = np.empty((len(rows), 16), np.uint8)
        for i, row in enumerate(rows):
            image = split.images.read(row)
            images_NCHW[i] = transform.apply(image.pixels)
            digests[i] = np.frombuffer(image.digest, np.uint8)
        yield rows, images_NCHW, digests


def find_bad(split: ImageSplit, transform: Transform, workers: int) -> list[tuple[int, str]]:
    """The rows that can't be decoded, and why."""
    bad = []
    for row in range(len(split)):
        try:
            transform.apply(split.images.read(row).pixels)
        except DataError as error:
            bad.append((row, str(error)))
    return bad
