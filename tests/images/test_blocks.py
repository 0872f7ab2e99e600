"""Decoding: the same arrays however many workers, the first bad image by name."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from xxhash import xxh3_128_digest

import pipeline.images.blocks
import pipeline.images.pool
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import DataError
from pipeline.images.blocks import decode_blocks, decode_cuts, find_bad
from pipeline.images.on_device import Cuts
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform

TRANSFORM = Transform(image_px=8, mean=(0, 0, 0), std=(1, 1, 1))
PHOTOS = Path(__file__).parents[3] / "shared/cifar10-jpeg"
RNG = np.random.default_rng(0)


@pytest.fixture
def split(tmp_path: Path) -> ImageSplit:
    """100 images, of 8×8 pixels or not."""
    for label in "ab":
        for name in ("train", "test"):
            (tmp_path / name / label).mkdir(parents=True)
        for i in range(50):
            pixels = RNG.integers(0, 256, (8, 8 + i % 3, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"train/{label}/{i:02}.png")
        Image.new("RGB", (8, 8)).save(tmp_path / f"test/{label}/0.png")
    return open_dataset(f"folder:{tmp_path}")["train"]


@pytest.fixture(params=["here", "threads", "processes"])
def decoders(
    request: pytest.FixtureRequest, split: ImageSplit, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Decoders]:
    """This kind of them, for tasks of 7 images."""
    monkeypatch.setattr(pipeline.images.blocks, "TASK_IMAGES", 7)
    if request.param == "processes":
        monkeypatch.setattr(pipeline.images.pool, "THREADS", 1)
        monkeypatch.setattr(pipeline.images.pool, "PROCESS_BYTES", 0)
    with Decoders([split], 1 if request.param == "here" else 2) as decoders:
        assert (decoders.count == 1) == (request.param == "here")
        assert decoders.are_processes == (request.param == "processes")
        yield decoders


def path_of(split: ImageSplit, tmp_path: Path, row: int) -> Path:
    return tmp_path / split.paths[row]


def test_blocks_hold_what_reading_one_by_one_gives(
    split: ImageSplit, tmp_path: Path, decoders: Decoders
) -> None:
    blocks = [range(0, 32), range(64, 96), range(96, 100), range(32, 33)]
    decoded = list(decode_blocks(split, blocks, TRANSFORM, decoders))
    assert [rows for rows, _, _ in decoded] == blocks
    for rows, images, digests in decoded:
        assert images.shape == (len(rows), 3, 8, 8)
        assert digests.shape == (len(rows), 16)
        assert images.dtype == digests.dtype == np.uint8
        for i, row in enumerate(rows):
            path = path_of(split, tmp_path, row)
            np.testing.assert_array_equal(images[i], TRANSFORM.apply(np.asarray(Image.open(path))))
            assert digests[i].tobytes() == xxh3_128_digest(path.read_bytes())


def test_cuts_become_what_is_resized_here(split: ImageSplit, decoders: Decoders) -> None:
    blocks = [range(0, 32), range(64, 96), range(33, 34)]  # the last is one image, of the right size
    expected = decode_blocks(split, blocks, TRANSFORM, decoders)
    for (_, cuts, digests), (_, images, of_images) in zip(
        list(decode_cuts(split, blocks, TRANSFORM, decoders)), expected, strict=True
    ):
        assert isinstance(cuts, list) == (len(images) > 1)
        found = Cuts(cuts, TRANSFORM).on(torch.device("cpu")) if isinstance(cuts, list) else cuts
        np.testing.assert_array_equal(found, images)
        np.testing.assert_array_equal(digests, of_images)


def test_the_first_bad_image_in_order_is_named(split: ImageSplit, tmp_path: Path, decoders: Decoders) -> None:
    for row, damage in ((40, b"x"), (13, b"")):
        path_of(split, tmp_path, row).write_bytes(damage)
    blocks = [range(at, at + 10) for at in range(0, 100, 10)]
    decoded = decode_blocks(split, blocks, TRANSFORM, decoders)
    assert next(decoded)[0] == range(10)
    with pytest.raises(DataError, match=rf"{split.paths[13]}: expected an image, found an empty file"):
        next(decoded)


def test_every_bad_image_is_found_with_its_reason(
    split: ImageSplit, tmp_path: Path, decoders: Decoders
) -> None:
    assert find_bad(split, TRANSFORM, decoders) == []
    path_of(split, tmp_path, 99).unlink()
    path_of(split, tmp_path, 3).write_bytes(b"")
    whole = path_of(split, tmp_path, 20).read_bytes()
    path_of(split, tmp_path, 20).write_bytes(whole[: len(whole) // 2])
    bad = find_bad(split, TRANSFORM, decoders)
    assert [row for row, _ in bad] == [3, 20, 99]
    assert bad[0][1] == "expected an image, found an empty file"
    assert "truncated" in bad[1][1]
    assert bad[2][1] == "can't be read: No such file or directory"
    assert not any(str(tmp_path) in reason for _, reason in bad)
    rest = split.without(row for row, _ in bad)
    _, images, _ = next(decode_blocks(rest, [range(97)], TRANSFORM, decoders))
    kept = [row for row in range(100) if row not in (3, 20, 99)]
    assert rest.labels.tolist() == split.labels[kept].tolist()
    expected = TRANSFORM.apply(split.images.read(kept[50]).pixels)
    np.testing.assert_array_equal(images[50], expected)


def test_an_image_of_the_wrong_size_is_bad_when_the_size_is_to_be_exact(split: ImageSplit) -> None:
    exact = Transform(image_px=8, resize="exact", mean=(0, 0, 0), std=(1, 1, 1))
    alone = Decoders([split], 1)
    bad = find_bad(split, exact, alone)
    assert [row for row, _ in bad] == [row for row in range(100) if (row % 50) % 3]
    with pytest.raises(DataError, match=rf"{split.paths[1]}: expected 8 x 8 pixels, found 9 x 8"):
        next(decode_blocks(split, [range(4)], exact, alone))


def test_datasets_in_memory_decode_alike() -> None:
    test = open_dataset("digits")["test"]
    wide = Transform(image_px=32, mean=(0, 0, 0), std=(1, 1, 1))
    for workers in (0, 1, 3):
        with Decoders([test], workers) as decoders:
            ((_, images, digests),) = decode_blocks(test, [range(359)], wide, decoders)
        for row in (0, 200, 358):
            image = test.images.read(row)
            np.testing.assert_array_equal(images[row], wide.apply(image.pixels))
            assert digests[row].tobytes() == image.digest


def test_nothing_to_decode_is_no_block() -> None:
    test = open_dataset("digits")["test"]
    with Decoders([test], 2) as decoders:
        assert list(decode_blocks(test, [], TRANSFORM, decoders)) == []
        assert find_bad(test.take([]), TRANSFORM, decoders) == []


def test_one_pool_decodes_split_after_split_and_goes_on_after_a_bad_image(
    split: ImageSplit, tmp_path: Path, decoders: Decoders
) -> None:
    first = path_of(split, tmp_path, 0)
    whole = first.read_bytes()
    first.write_bytes(b"")
    with pytest.raises(DataError, match="found an empty file"):
        next(decode_blocks(split, [range(50), range(50, 100)], TRANSFORM, decoders))
    first.write_bytes(whole)
    digits = open_dataset("digits")["test"]
    for images, rows in ((digits, range(30)), (split, range(100))):
        ((_, decoded, _),) = decode_blocks(images, [rows], TRANSFORM, decoders)
        for row in (0, 29):
            np.testing.assert_array_equal(decoded[row], TRANSFORM.apply(images.images.read(row).pixels))


@pytest.mark.skipif(not PHOTOS.exists(), reason="no ../shared/cifar10-jpeg")
def test_photos_decode_alike_in_any_number_of_workers() -> None:
    split = open_dataset(f"folder:{PHOTOS}")["test"].take(range(0, 10_000, 20))
    transform = Transform(image_px=32, mean=(0, 0, 0), std=(1, 1, 1))
    (alone,) = decode_blocks(split, [range(500)], transform, Decoders([split], 1))
    with Decoders([split], 0) as decoders:
        (many,) = decode_blocks(split, [range(500)], transform, decoders)
    np.testing.assert_array_equal(alone[1], many[1])
    np.testing.assert_array_equal(alone[2], many[2])
    assert np.unique(alone[2], axis=0).shape == (500, 16)
