"""Decoding ahead of the trunk: it happens, no further than it should, and ends when nobody wants it."""

import time

import numpy as np
import pytest

import pipeline.images.blocks
from cache import Paths
from pipeline.datasets.base import ArrayReader, ImageBytes, ImageSplit
from pipeline.images.blocks import decode_blocks
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform

TRANSFORM = Transform(image_px=8, mean=(0, 0, 0), std=(1, 1, 1))


class CountingReader(ArrayReader):
    """Counts what is read, a millisecond each; for threads."""

    def __init__(self, pixels_NHWC: np.ndarray, count: list[int]) -> None:
        super().__init__(pixels_NHWC)
        self.count = count

    def read(self, row: int) -> ImageBytes:
        self.count[0] += 1
        time.sleep(0.001)
        return super().read(row)

    def take(self, rows: object) -> "CountingReader":
        return CountingReader(self.pixels_NHWC[rows], self.count)  # type: ignore[index]


def counted(length: int) -> tuple[ImageSplit, list[int]]:
    count = [0]
    pixels = np.zeros((length, 8, 8, 3), np.uint8)
    labels = np.zeros(length, np.int64)
    paths = Paths(map(str, range(length)))
    reader = CountingReader(pixels, count)
    return ImageSplit("counted", "train", ("a",), paths, labels + 192, labels, reader), count


def settle(count: list[int]) -> int:
    """The count once it stays the same."""
    before = -1
    while before != count[0]:
        before = count[0]
        time.sleep(0.1)
    return before


def test_reading_ahead_is_bounded_and_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.images.blocks, "TASK_IMAGES", 4)
    split, count = counted(4000)
    blocks = [range(at, at + 40) for at in range(0, 4000, 40)]
    with Decoders([split], 2) as decoders:
        decoded = decode_blocks(split, blocks, TRANSFORM, decoders)
        for done in (1, 2, 3):
            next(decoded)
            assert (done + 1) * 40 <= settle(count) <= (done + 1) * 40 + 6 * 4
        decoded.close()


def test_leaving_early_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.images.blocks, "TASK_IMAGES", 4)
    split, count = counted(4000)
    with Decoders([split], 3) as decoders:
        decoded = decode_blocks(split, [range(40), range(40, 4000)], TRANSFORM, decoders)
        next(decoded)
        decoded.close()
    assert settle(count) < 4000
