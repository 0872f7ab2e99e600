"""Pictures and rates of where a head looked, from images to files, on scenes."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cache import FeatureCache
from pipeline.config import EvaluateConfig, ExtractConfig, TrainConfig
from pipeline.datasets import scenes
from pipeline.datasets.base import open_dataset
from pipeline.errors import ConfigError, RunError, StaleCacheError
from pipeline.evaluation.logits import open_run
from pipeline.evaluation.regions.hits import HitRate
from pipeline.evaluation.regions.images import Images
from pipeline.evaluation.regions.look import look
from pipeline.evaluation.stage import REGIONS, evaluate
from pipeline.extraction.stage import extract
from pipeline.runs.folder import load_head
from pipeline.training.stage import train

pytestmark = pytest.mark.usefixtures("few_scenes")


def trained(cache: Path, out: Path, head: str = "recurrent-attention", crops: str = "full") -> Path:
    settings = {"hidden": (16,), "epochs": 1, "batch": 20, "device": "cpu", "region_cells": 3, "steps": 3}
    return train(TrainConfig(cache=str(cache), out=str(out), head=head, crops=crops, **settings))  # type: ignore[arg-type]


def test_the_sheet_and_the_json_hold_what_the_head_looked_at(
    scenes_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained(scenes_cache, tmp_path / "run")
    evaluate(EvaluateConfig(run=(str(run),), show_regions=6, device="cpu"))
    with Image.open(run / "eval/regions.png") as sheet:
        assert sheet.width > 400
    facts = json.loads((run / "eval/regions.json").read_text())
    assert [image["path"] for image in facts["images"]] == [f"test/{i:04}" for i in range(20)]
    assert np.shape([image["regions"] for image in facts["images"]]) == (20, 1, 3, 4)
    test = FeatureCache(scenes_cache / "test.h5")
    loaded = load_head(run)
    theta = loaded.head.attention(
        loaded.inputs(torch.from_numpy(test.take(np.arange(20), None)).float())
    ).theta  # type: ignore[operator]
    for image, regions in zip(facts["images"], theta[0, :, 0].tolist(), strict=True):
        for (sx, _, tx, _), (x0, _, x1, _) in zip(regions, image["regions"][0], strict=True):
            # 13 cells over 64 pixels: centres from 1/2 to 12 1/2 cells, half a cell more on each side
            assert (x0 + x1) / 2 == pytest.approx((6 * tx + 6.5) * 64 / 13, abs=0.02)
            assert x1 - x0 == pytest.approx((12 * abs(sx) + 1) * 64 / 13, abs=0.02)
    assert f"{facts['hits']:.1f} % of {facts['pairs']:,} predicted objects" in capsys.readouterr().out


def test_what_was_looked_at_scores_as_the_predictions_do(scenes_cache: Path, tmp_path: Path) -> None:
    for crops, shown, count in (("full", 0, 1), ("ten", 4, 10)):
        run = trained(scenes_cache, tmp_path / crops, crops=crops)
        evaluate(EvaluateConfig(run=(str(run),), device="cpu"))
        looked = look(open_run(run), 7)
        with np.load(run / "eval/predictions.npz") as predictions:
            assert np.allclose(looked.logits, predictions["logits"], atol=1e-5)
            assert np.array_equal(looked.present, predictions["labels"] == 1)
        assert (looked.crop, looked.boxes.shape[1]) == (shown, count)


def test_a_head_without_regions_is_refused_in_one_line(scenes_cache: Path, tmp_path: Path) -> None:
    run = trained(scenes_cache, tmp_path / "run", head="gmp")
    with pytest.raises(
        RunError, match=r"--show-regions: expected a run of .*recurrent-attention, .*run looks at no"
    ):
        evaluate(EvaluateConfig(run=(str(run),), show_regions=3, device="cpu"))
    with pytest.raises(RunError, match=r"run: expected --head recurrent-attention, found gmp"):
        look(open_run(run))


def test_of_several_runs_those_that_attend_are_shown(scenes_cache: Path, tmp_path: Path) -> None:
    runs = [trained(scenes_cache, tmp_path / head, head=head) for head in ("gmp", "recurrent-attention")]
    settings = {"out": str(tmp_path / "comparison.json"), "resamples": 100, "device": "cpu"}
    evaluate(EvaluateConfig(run=tuple(map(str, runs)), show_regions=2, **settings))  # type: ignore[arg-type]
    assert [(run / "eval/regions.json").exists() for run in runs] == [False, True]


def test_images_are_found_by_path_with_their_boxes(scenes_cache: Path) -> None:
    images = Images(FeatureCache(scenes_cache / "test.h5"))
    split = scenes.load("", test_fraction=0.2, seed=0)["test"]
    pixels, boxes = images.read("test/0003"), images.boxes("test/0003", split.classes)
    assert np.array_equal(pixels, split.images.read(3).pixels)
    assert split.boxes is not None
    assert boxes is not None
    assert np.array_equal(boxes, split.boxes[3])


def test_images_are_found_where_the_default_share_leaves_none_to_test_on(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    """Two images of each class, without a test split: the share is the one that the cache was made with."""
    for image in (photos / "train").glob("*/*.png"):
        if image.stem not in ("00", "01"):
            image.unlink()
    extract(
        ExtractConfig(
            dataset=f"folder:{photos / 'train'}",
            weights=str(weights),
            cache=str(tmp_path / "c"),
            test_fraction=0.5,
            device="cpu",
        )
    )
    test = FeatureCache(tmp_path / "c/test.h5")
    images = Images(test)
    assert sorted(Path(path).parent.name for path in test.paths) == ["a b", "ü"]
    for path in test.paths:
        with Image.open(photos / "train" / path.removeprefix("train/")) as image:
            assert np.array_equal(images.read(path), np.asarray(image.convert("RGB")))
    with pytest.raises(ConfigError, match="--test-fraction"):
        open_dataset(f"folder:{photos / 'train'}")


def test_another_image_at_the_same_path_is_refused(
    scenes_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "SEEDS", {"train": 1, "test": 2})
    images = Images(FeatureCache(scenes_cache / "test.h5"))
    with pytest.raises(StaleCacheError, match=r"^test/0003: another image of scenes than the cache was made"):
        images.size("test/0003")


def test_regions_of_an_earlier_evaluation_do_not_stay(scenes_cache: Path, tmp_path: Path) -> None:
    run = trained(scenes_cache, tmp_path / "run")
    evaluate(EvaluateConfig(run=(str(run),), show_regions=1, device="cpu"))
    assert {path.name for path in (run / "eval").iterdir()} > set(REGIONS)
    evaluate(EvaluateConfig(run=(str(run),), device="cpu"))
    assert not {path.name for path in (run / "eval").iterdir()} & set(REGIONS)


def test_without_a_prediction_there_is_no_rate() -> None:
    assert str(HitRate(float("nan"), float("nan"), 0)).startswith("no object that is there was predicted")
    assert "on 50.0 % of 1,200 predicted objects" in str(HitRate(50, 25, 1200))


def test_boxes_take_the_numbers_of_the_heads_classes(
    scenes_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = np.array([[0, 1, 2, 3, 4], [2, 5, 6, 7, 8], [1, 0, 0, 9, 9]], np.float32)
    split = scenes.load("", test_fraction=0.2, seed=0)["test"].take([0])
    split = dataclasses.replace(split, classes=("ant", "bee", "cow"), boxes=[boxes])
    monkeypatch.setattr("pipeline.evaluation.regions.images.open_dataset", lambda *_, **__: {"test": split})
    images = Images(FeatureCache(scenes_cache / "test.h5"))
    found = images.boxes("test/0000", ("cow", "ant"))
    assert found is not None
    assert found.tolist() == [[1, 1, 2, 3, 4], [0, 5, 6, 7, 8]]
    assert boxes[:, 0].tolist() == [0, 2, 1]  # the dataset's own stay as they are


def test_the_list_of_paths_is_not_copied_for_every_image(
    scenes_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, copies, paths = trained(scenes_cache, tmp_path / "run"), [], FeatureCache.paths
    assert isinstance(paths, property)
    assert paths.fget is not None
    get = paths.fget
    monkeypatch.setattr(FeatureCache, "paths", property(lambda cache: copies.append(cache) or get(cache)))
    assert len(look(open_run(run)).paths) == 20
    assert len(copies) <= 2
