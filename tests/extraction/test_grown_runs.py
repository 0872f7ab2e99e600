"""Runs whose cache has grown since: what they were trained on is known, and never scored as a test image."""

import shutil
from pathlib import Path

import pytest
from support.extracting import settings
from support.folders import write

from cache import FeatureCache, split_path
from pipeline.config import EvaluateConfig, ExtractConfig, TrainConfig
from pipeline.errors import RunError
from pipeline.evaluation.stage import evaluate
from pipeline.extraction.stage import extract
from pipeline.runs.find_cache import find_cache
from pipeline.training.stage import train


def small(photos: Path, weights: Path, cache: Path) -> ExtractConfig:
    return settings(photos, weights, cache, resize="squash")


def head(cache: Path, out: Path, **other: object) -> Path:
    fields = {"head": "linear", "epochs": 1, "val_fraction": 0.2, "device": "cpu", **other}
    return train(TrainConfig(cache=str(cache), out=str(out), **fields))  # type: ignore[arg-type]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six images of each of two classes to train on, and two to test."""
    root = tmp_path / "pictures"
    number = 0
    for split, count in (("train", 6), ("test", 2)):
        for name in "ab":
            for i in range(count):
                write(root / split / name / f"{i}.png", number := number + 1)
    return root


def test_a_run_is_scored_and_gone_on_from_after_its_cache_has_grown(
    pictures: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = tmp_path / "c"
    runs = list[Path]()
    for day in range(3):
        extract(small(pictures, weights, cache))
        runs.append(head(cache, tmp_path / f"run{day}"))
        write(pictures / f"train/a/new {day}.png", 100 + day)
        write(pictures / f"test/b/new {day}.png", 200 + day)
    extract(small(pictures, weights, cache))
    (cache / "train.was-0.json").write_text("damaged")  # hides none of the others
    for day, run in enumerate(runs):
        training = find_cache(run).training
        assert training is not None
        assert len(training) == 12 + day
        capsys.readouterr()
        evaluate(EvaluateConfig(run=(str(run),), device="cpu"))
        said = capsys.readouterr().out
        assert f"{run}: trained on the {12 + day} images of {cache}/train" in said
        assert "before that grew to the 15 of train.json" in said
        assert "not checked" not in said
    again = head(cache, tmp_path / "again", init=str(runs[0]))
    assert "not checked" not in capsys.readouterr().out
    now = find_cache(again).training
    assert now is not None
    assert now.path == cache / "train.json"


def test_an_image_that_was_trained_on_and_is_a_test_image_now_is_refused(
    pictures: Path, weights: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "c"
    extract(small(pictures, weights, cache))
    run = head(cache, tmp_path / "run")
    shutil.move(pictures / "train/a/3.png", pictures / "test/a/moved.png")
    extract(small(pictures, weights, cache))
    assert "test/a/moved.png" in FeatureCache(split_path(cache, "test")).paths
    said = rf"1 of 5 test images are among those that {run} was trained or validated on, test/a/moved\.png is"
    with pytest.raises(RunError, match=said):
        evaluate(EvaluateConfig(run=(str(run),), device="cpu"))
