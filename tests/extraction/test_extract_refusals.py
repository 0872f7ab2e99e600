"""What extraction refuses before it computes: images, weights, datasets and disks; what it leaves behind."""

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.extracting import files, map_of, settings

from cache import CacheWriter, FeatureCache
from pipeline.errors import CacheError, ConfigError, DataError, WeightsError
from pipeline.extraction.stage import extract


def test_a_bad_image_stops_the_run_by_name_or_is_left_out_and_recorded(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    (photos / "train/a b/05.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"a b/05\.png: .*: --on-bad-image skip"):
        extract(settings(photos, weights, tmp_path / "c"))
    assert not (tmp_path / "c/train.h5").exists()
    extract(settings(photos, weights, tmp_path / "c2", on_bad_image="skip"))
    cache = FeatureCache(tmp_path / "c2/train.h5")
    assert cache.shape[0] == 79
    assert np.bincount(cache.labels).tolist() == [39, 40]
    assert [s["path"] for s in cache.notes["skipped"]] == ["train/a b/05.png"]
    row = cache.paths.index("train/a b/06.png")
    expected = map_of(weights, Image.open(photos / "train/a b/06.png"))
    torch.testing.assert_close(
        torch.from_numpy(cache.features[row, 0].copy()), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("block", "follow"), [(0, "mend"), (0, "remove"), (0, "leave out"), (2, "leave out")]
)
def test_the_advice_on_a_bad_image_works_when_followed(
    block: int, follow: str, weights: Path, tmp_path: Path
) -> None:
    """A bad image of the first block, and of the third, when the first is written."""
    photos, images, small = tmp_path / "photos", 1024 * block + 4, {"image_px": 16}
    for split, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (photos / split / name).mkdir(parents=True)
        for i in range(images if (split, name) == ("train", "a") else 2):
            Image.new("RGB", (32, 32), (i % 256, i // 256, 0)).save(photos / split / name / f"{i:04}.png")
    bad = photos / "train/b/0001.png"
    bad.write_bytes(b"not an image")
    with pytest.raises(DataError) as caught:
        extract(settings(photos, weights, tmp_path / "c", **small))
    part = tmp_path / "c/train.h5.part"
    assert (f"delete {part}" in str(caught.value)) == bool(block)
    if block:
        part.unlink()
    if follow == "mend":
        Image.new("RGB", (32, 32)).save(bad)
    elif follow == "remove":
        bad.unlink()
    skip = {"on_bad_image": "skip"} if follow == "leave out" else {}
    extract(settings(photos, weights, tmp_path / "c", **small, **skip))
    assert len(FeatureCache(tmp_path / "c/train.h5")) == images + 1 + (follow == "mend")


@pytest.mark.parametrize("left", ["train.h5.part", "train.h5.layout"])
def test_what_an_interrupted_run_left_counts_as_free(
    left: str, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layout that was cut off, and a part without blocks, are replaced."""
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "write", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(settings(photos, weights, tmp_path / "c", views="mirror"))
    (tmp_path / "c/train.h5.part").rename(tmp_path / "c" / left)
    usage = shutil.disk_usage(tmp_path)._replace(free=3 << 20)  # of 5 MB needed, 4 MB of them for train.h5
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    extract(settings(photos, weights, tmp_path / "c", views="plain" if left.endswith("part") else "mirror"))
    assert sorted(files(tmp_path / "c")) == ["test.h5", "train.h5"]


def test_a_split_of_bad_images_alone_is_named(photos: Path, weights: Path, tmp_path: Path) -> None:
    for image in (photos / "test").glob("*/*.png"):
        image.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"folder:\S*photos: test: expected an image that can be decoded"):
        extract(settings(photos, weights, tmp_path / "c", on_bad_image="skip"))


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CacheError, match="the disk has 0 MB free"):
        extract(settings(photos, weights, tmp_path / "c"))
    assert os.listdir(tmp_path / "c") == []


def test_relabelling_needs_room_for_a_copy(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class of another name: nothing is computed, but the file is written anew."""
    extract(settings(photos, weights, tmp_path / "c"))
    kept = files(tmp_path / "c")
    table = ["image,labels,split"]
    table += [f"{p.relative_to(photos)},x|y,{p.parent.parent.name}" for p in sorted(photos.rglob("*.png"))]
    (photos / "t.csv").write_text("\n".join(table), encoding="utf-8")
    config = dataclasses.replace(settings(photos, weights, tmp_path / "c"), dataset=f"csv:{photos}/t.csv")
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        with pytest.raises(CacheError, match="the disk has 0 MB free"):
            extract(config)
    assert files(tmp_path / "c") == kept
    extract(config)
    assert FeatureCache(tmp_path / "c/train.h5").classes == ("x", "y")


def test_an_image_that_is_too_small_for_the_trunk_is_a_mistake_of_the_flag(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--image-px: 4 pixels are not enough"):
        extract(settings(photos, weights, tmp_path / "c", image_px=4))


def test_missing_weights_are_one_line(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pth: no such file"):
        extract(settings(photos, tmp_path / "none.pth", tmp_path / "c"))


def test_a_refused_dataset_leaves_no_folder_behind(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        extract(settings(tmp_path / "nowhere", weights, tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
