"""Images that stand in both splits are counted, by what is in them, whenever the caches are there."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.extracting import settings
from support.samples import features, header

from cache import CacheWriter, FeatureCache
from pipeline.extraction.in_both import images_in_both
from pipeline.extraction.stage import extract


def said(photos: Path, weights: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    extract(settings(photos, weights, cache))
    return [
        line for line in capsys.readouterr().out.splitlines() if "test images are training images" in line
    ]


def test_images_in_both_splits_are_counted_and_one_is_named(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)  # other pixels than those of the training images
    for image in (photos / "test").glob("*/*.png"):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(image)
    assert said(photos, weights, tmp_path / "apart", capsys) == []
    shutil.copy(photos / "train/ü/30.png", photos / "test/a b/03.png")  # under another name and label
    shutil.copy(photos / "train/a b/02.png", photos / "test/a b/07.png")
    shutil.copy(photos / "train/a b/02.png", photos / "test/ü/07.png")
    shutil.copy(photos / "test/a b/01.png", photos / "test/ü/01.png")  # twice in one split
    line = "3 of 20 test images are training images too, byte for byte, such as "
    line += "test/a b/03.png (train/ü/30.png): scores on them say nothing; take them out of one split"
    for _ in ("made", "up to date"):
        assert said(photos, weights, tmp_path / "both", capsys) == [line]


def test_digests_are_compared_as_a_whole(tmp_path: Path) -> None:
    """The first of three agrees in its first half, the second in its second half."""
    digests = np.arange(48, dtype=np.uint8).reshape(3, 16)

    def cache(name: str, image_digests: np.ndarray) -> FeatureCache:
        with CacheWriter(tmp_path / name, header(3)) as writer:
            writer.write(range(3), features(header(3), range(3)), image_digests)
            return FeatureCache(writer.publish())

    other = digests + 100
    other[0, :8], other[1, 8:] = digests[0, :8], digests[1, 8:]
    train = cache("train.h5", digests)
    assert images_in_both(train, cache("none.h5", other)) == ""
    other[0] = digests[2]
    said = images_in_both(train, cache("one.h5", other))
    assert said.startswith(
        "1 of 3 test images are training images too, byte for byte, such as train/0/00000.png"
    )
