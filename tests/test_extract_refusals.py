"""What extraction refuses before it computes: images, weights, datasets and disks; what it leaves behind."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from extracting import map_of, settings
from PIL import Image

from cache import FeatureCache
from pipeline.errors import CacheError, ConfigError, DataError, WeightsError
from pipeline.extract import extract


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


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CacheError, match="the disk has 0 MB free"):
        extract(settings(photos, weights, tmp_path / "c"))
    assert os.listdir(tmp_path / "c") == []


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
