"""Blocks on their way from the trunk to the cache: each in its place, whatever array it came through."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from cache import CacheError, CacheHeader, CacheWriter, FeatureCache, Paths
from pipeline.datasets.base import ArrayReader, ImageSplit
from pipeline.extraction import overlap, pieces
from pipeline.extraction.overlap import write_missing
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform
from pipeline.images.views import Views
from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk

SIZE = 6


def scaled_pixels(white: float) -> PreparedTrunk:
    """A trunk whose maps are the pixels themselves, 255 becoming `white`."""
    transform = Transform(image_px=SIZE, mean=(0, 0, 0), std=(1 / white, 1 / white, 1 / white))
    return PreparedTrunk(Trunk("pixels", 1, nn.Identity(), transform, ""), torch.device("cpu"))


def split_of(pixels_NHWC: np.ndarray) -> ImageSplit:
    count = len(pixels_NHWC)
    labels, paths = np.zeros(count, np.int64), Paths(f"{row:05}" for row in range(count))
    return ImageSplit("pixels", "train", ("a",), paths, labels + 48, labels, ArrayReader(pixels_NHWC))


def make(
    folder: Path,
    split: ImageSplit,
    prepared: PreparedTrunk,
    views: str,
    batch: int = 0,
    dtype: str = "float16",
) -> Path:
    make_views = Views(views, len(split), 0)
    shape = (len(split), make_views.per_image, 3, SIZE, SIZE)
    header = CacheHeader(shape, dtype, split.labels, split.paths, split.classes, {})
    with CacheWriter(folder / "train.h5", header) as writer, Decoders([split], most=1) as decoders:
        write_missing([writer], split, make_views, prepared, decoders, batch)
        return writer.publish()


@pytest.mark.parametrize("batch", [7, 300, 1024])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_block_keeps_its_maps_while_the_next_are_computed(
    dtype: str, batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is slow, so that the trunk is ahead of it; the last of six blocks is a short one."""
    pixels = np.random.default_rng(0).integers(0, 256, (5 * 1024 + 100, SIZE, SIZE, 3), np.uint8)
    write = CacheWriter.write

    def slow(*arguments: Any) -> None:
        time.sleep(0.05)
        write(*arguments)

    monkeypatch.setattr(CacheWriter, "write", slow)
    path = make(tmp_path, split_of(pixels), scaled_pixels(255), "mirror", batch, dtype)
    stored = FeatureCache(path).features
    shown = pixels.transpose(0, 3, 1, 2)
    expected = np.stack([shown, shown[..., ::-1]], 1)
    np.testing.assert_allclose(stored, expected, rtol=1e-3 if dtype == "float16" else 1e-6)


def black_but_one(rows: int, white: int) -> ImageSplit:
    """Black images, of which one has a single white sample."""
    pixels = np.zeros((rows, SIZE, SIZE, 3), np.uint8)
    pixels[white, 2, 1, 0] = 255
    return split_of(pixels)


def test_a_number_that_float16_rounds_down_to_is_stored_among_batches_that_fit(tmp_path: Path) -> None:
    path = make(tmp_path, black_but_one(40, 25), scaled_pixels(65_510), "plain", batch=10)
    expected = np.zeros((40, 1, 3, SIZE, SIZE))
    expected[25, 0, 0, 2, 1] = 65_504
    assert np.array_equal(FeatureCache(path).features, expected)


@pytest.mark.parametrize("row", [3, 39, 1024 + 25])
def test_a_number_too_large_for_float16_is_named_with_its_image(row: int, tmp_path: Path) -> None:
    split = black_but_one(1064, row)
    with pytest.raises(CacheError, match=rf"row {row} \({row:05}\): 70000 is too large for float16"):
        make(tmp_path, split, scaled_pixels(70_000), "plain", batch=10)


def test_maps_of_another_shape_than_the_cache_s_are_refused(tmp_path: Path) -> None:
    """And not spread over the place that is there for them."""
    prepared = scaled_pixels(255)
    prepared.module = nn.AdaptiveAvgPool2d(1)
    with pytest.raises(CacheError, match="expected floating point of shape"):
        make(tmp_path, black_but_one(4, 0), prepared, "plain")


@pytest.mark.parametrize("batch", [8, 300])
def test_blocks_in_pieces_have_the_same_batches_and_bytes_and_less_in_memory(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row is 108 bytes of pixels and three views of 216 bytes each."""
    split = split_of(np.random.default_rng(0).integers(0, 256, (1500, SIZE, SIZE, 3), np.uint8))
    batches: list[range] = []
    written: list[range] = []
    submit, write = overlap.Streams.submit, CacheWriter.write
    monkeypatch.setattr(
        overlap.Streams, "submit", lambda *given: (batches.append(given[2]), submit(*given))[1]
    )
    monkeypatch.setattr(CacheWriter, "write", lambda *given: (written.append(given[1]), write(*given))[1])
    made: list[tuple[list[range], list[range], bytes]] = []
    for name, most in (("whole", pieces.PIECE_BYTES), ("cut", 100 * (108 + 3 * 216))):
        monkeypatch.setattr(pieces, "PIECE_BYTES", most)
        path = make(tmp_path / name, split, scaled_pixels(255), "augment:2", batch)
        made.append((batches.copy(), written.copy(), path.read_bytes()))
        batches.clear()
        written.clear()
    whole, cut = made
    assert whole[0] == cut[0]
    assert whole[2] == cut[2]
    assert whole[1] == [range(1024), range(1024, 1500)]
    least = batch // 3 * torch.get_num_threads()  # a batch for each stream
    assert max(map(len, cut[1])) == max(100 // (batch // 3) * (batch // 3), least)
    assert sum(map(len, cut[1])) == 1500
