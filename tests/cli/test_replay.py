"""--config takes settings from a file, and a flag beside it counts more."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.evaluating import head, write_cache

from pipeline.cli.parsing import parse
from pipeline.config import ExtractConfig, PretrainConfig, SweepConfig
from pipeline.errors import ConfigError, RunError
from pipeline.runs.folder import load_head
from pipeline.training.sweep import sweep


def written(tmp_path: Path, settings: Any) -> str:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(settings))
    return str(path)


def test_a_file_says_what_flags_would(tmp_path: Path) -> None:
    file = written(tmp_path, {"head": ["knn", "gmp"], "weight-decay": 0.02, "resume": True, "per_class": 5})
    flags = ["--head", "knn", "gmp", "--weight-decay", "0.02", "--resume", "--per-class", "5"]
    assert parse(SweepConfig, "train", ["--config", file]) == parse(SweepConfig, "train", flags)
    assert parse(ExtractConfig, "extract", [f"--config={written(tmp_path, {})}"]) == ExtractConfig()


def test_flags_count_more_than_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, {"lr": [0.1, 0.3], "epochs": 7})
    found = parse(SweepConfig, "train", ["--lr", "0.5", "--config", file])
    assert (found.lr, found.epochs) == ((0.5,), 7)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"epoch": 3}, r"settings\.json: expected settings of this command, found 'epoch'; did you mean"),
        ({"epochs": "many"}, "expected a whole number"),
        ({"epochs": 0}, "from 1 to"),
        ({"head": "knm"}, "did you mean knn"),
        ({"resume": 1}, "True or False"),
        ([1], "expected a JSON object"),
        ({"format": 1, "stage": "pretrain"}, "found a run of 'pretrain'"),
    ],
)
def test_a_mistake_in_a_file_is_refused(tmp_path: Path, settings: Any, problem: str) -> None:
    with pytest.raises((ConfigError, RunError), match=problem):
        parse(SweepConfig, "train", ["--config", written(tmp_path, settings)])
    with pytest.raises(RunError, match=r"none\.json"):
        parse(PretrainConfig, "pretrain", ["--config", str(tmp_path / "none.json")])


def test_a_run_is_repeated_from_its_own_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with another choice of validation images, and on a cache that lies elsewhere by now."""
    cache = write_cache(tmp_path / "cache")
    run = head(cache, tmp_path / "run", seed=(3,), hidden=(8, 4), dropout=0.1)
    words = ["--config", str(run / "config.json")]
    again = parse(SweepConfig, "train", [*words, "--out", str(run)])
    assert again.stage is None  # in config.json that word says who made the run
    assert load_head(run).config.stage is None
    assert sweep(again) == run
    assert f"{run}: up to date" in capsys.readouterr().out
    folds = parse(SweepConfig, "train", [*words, "--folds", "3"])
    assert (folds.folds, folds.val_fraction, folds.hidden, folds.out) == (3, None, (8, 4), None)
    described = json.loads((run / "config.json").read_text())
    file = written(tmp_path, {**described, "cache": "moved", "cache_path": str(cache)})
    assert parse(SweepConfig, "train", ["--config", file]).cache == str(cache)
