"""Heads trained on a split of several files are those trained on one file."""

from pathlib import Path

import pytest
from support import toy
from support.trained import assert_same, board

from cache import FeatureCache, split_path
from cache.resharding import split
from pipeline.config import EvaluateConfig, PredictConfig, SweepConfig
from pipeline.evaluation.stage import evaluate
from pipeline.prediction.stage import predict
from pipeline.training.stage import train
from pipeline.training.sweep import sweep

IMAGES, EIGHT_BLOCKS = 2200, 7200  # the first are three blocks
TIMED = ("seconds", "images_per_second")


def sharded(folder: Path, views: str, shards: int) -> tuple[Path, Path]:
    """A cache of one file for each split, and the same in `shards` files for each."""
    one, many = folder / "one", folder / "many"
    for name in ("train", "test"):
        toy.write_cache(one, IMAGES, views=views, dtype="float16", split=name)
        split(one / f"{name}.h5", many, shards)
    return one, many


@pytest.fixture(
    scope="module", params=[("plain", "ten"), ("mirror", "ten-image"), ("augment:3", "full")], ids=" ".join
)
def one_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a cache of eight blocks in one file, and a head trained on it; the crops that it saw."""
    (views, crops), folder = request.param, tmp_path_factory.mktemp("one")
    for name in ("train", "test"):
        images = EIGHT_BLOCKS if name == "train" else 90
        toy.write_cache(folder / "cache", images, views=views, dtype="float16", split=name)
    train(toy.config(folder / "cache", folder / "run", crops=crops, epochs=1, batch=256))
    return folder, crops


@pytest.mark.parametrize("shards", [1, 2, 5, 8])
def test_weights_are_equal_whatever_the_files(
    one_file: tuple[Path, str], shards: int, tmp_path: Path
) -> None:
    (folder, crops), many = one_file, tmp_path / "cache"
    for name in ("train", "test"):
        split(folder / f"cache/{name}.h5", many, shards)
    assert len(FeatureCache(split_path(many, "train")).shards) == shards
    train(toy.config(many, tmp_path / "run", crops=crops, epochs=1, batch=256))
    assert_same(folder / "run", tmp_path / "run")


@pytest.mark.parametrize("settings", [{"folds": 3}, {"memory_budget_mb": 8}, {"head": "knn"}])
def test_folds_disk_and_fitted_heads_read_several_files(tmp_path: Path, settings: dict) -> None:
    one, many = (
        train(toy.config(cache, tmp_path / f"run-{cache.name}", epochs=2, batch=256, **settings))
        for cache in sharded(tmp_path, "plain", 2)
    )
    assert_same(one, many)


def test_a_sweep_its_scores_and_predictions_are_equal(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    boards, tables, scores = [], [], []
    for cache in sharded(tmp_path, "plain", 3):
        out = tmp_path / f"sweep-{cache.name}"
        flags = {"lr": (0.1, 0.01), "head": ("fullnet", "linear"), "hidden": (6,), "epochs": 2, "jobs": 1}
        sweep(SweepConfig(cache=str(cache), out=str(out), device="cpu", **flags))
        boards.append([{k: v for k, v in head.items() if k not in TIMED} for head in board(out)["heads"]])
        evaluate(EvaluateConfig(run=(str(out),)))
        said = capsys.readouterr().out.replace(str(out), "RUN").splitlines()
        scores.append([line for line in said if line.startswith("RUN") and "%" in line])
        table = tmp_path / f"{cache.name}.csv"
        predict(PredictConfig(run=str(out), cache=str(split_path(cache, "test")), out=str(table)))
        tables.append(table.read_text())
    assert boards[0] == boards[1]
    assert scores[0] == scores[1]
    assert tables[0] == tables[1]
    assert len(tables[0].splitlines()) == IMAGES + 1


def test_a_run_finds_its_cache_when_it_was_split_or_moved(tmp_path: Path) -> None:
    one, many = sharded(tmp_path, "plain", 2)
    run = train(toy.config(one, tmp_path / "run", epochs=1, batch=256))
    for path in one.iterdir():
        path.unlink()
    one.rmdir()
    evaluate(EvaluateConfig(run=(str(run),)))
    assert FeatureCache(split_path(many, "train")).key == FeatureCache(many / "train.json").key
