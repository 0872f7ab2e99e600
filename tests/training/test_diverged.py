"""Heads that diverge: no score, no weights, nothing that could be taken for a trained head."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.toy import config, write_cache
from support.trained import board, lines

from cache import CacheError, FeatureCache
from pipeline.config import EvaluateConfig
from pipeline.errors import RunError, UserError
from pipeline.evaluation.stage import evaluate, find_run
from pipeline.heads import HEADS
from pipeline.runs.folder import load_head
from pipeline.training.stage import parts_of, train

WILD: dict[str, Any] = {"lr": (0.1, 1000.0), "weight_decay": (10.0,), "epochs": 30}
"""The second head grows without end, the first doesn't."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_cache(tmp_path_factory.mktemp("cache"))
    return write_cache(folder, images=30, split="test")


def overwrite(folder: Path, rows: np.ndarray, value: float) -> None:
    """Put a number that isn't finite into some rows of a cache, past its digests."""
    cache = FeatureCache(folder / "train.h5")
    size = 4 * int(np.prod(cache.shape[1:]))
    with open(cache.path, "r+b") as file:
        begin = file.seek(0, 2) - size * len(cache)
        for row in rows.tolist():
            file.seek(begin + row * size)
            file.write(np.full(4, value, np.float32).tobytes())


@pytest.mark.parametrize("val_fraction", [0.0, 0.3])
def test_a_head_of_a_stack_that_diverged_has_neither_score_nor_weights(
    tmp_path: Path, cache: Path, val_fraction: float, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(config(cache, tmp_path / "run", val_fraction=val_fraction, **WILD))
    sound, wild = run / "lr0.1-wd10-seed0", run / "lr1000-wd10-seed0"
    assert lines(wild)[-1]["train_loss"] is None
    for summary in (json.loads((wild / "summary.json").read_text()), board(run)["heads"][-1]):
        assert summary["diverged"] is True
        assert summary["best_epoch"] is summary["val_top1"] is summary["val_loss"] is None
    assert not (wild / "head.safetensors").exists()
    assert board(run)["heads"][0]["diverged"] is False
    assert board(run)["heads"][0]["folder"] == sound.name
    assert [setting["diverged"] for setting in board(run)["settings"]] == [0, 1]
    assert "1 diverged" in capsys.readouterr().out
    load_head(sound)
    with pytest.raises(UserError):
        load_head(wild)
    with pytest.raises(RunError, match="diverged"):
        evaluate(EvaluateConfig(run=(str(wild),), device="cpu"))
    if val_fraction:
        assert find_run(run) == sound
    train(config(cache, tmp_path / "run", val_fraction=val_fraction, **WILD))
    assert "up to date" in capsys.readouterr().out


def test_a_setting_with_a_seed_that_diverged_has_no_mean_and_ranks_last(tmp_path: Path, cache: Path) -> None:
    from pipeline.runs import leaderboard

    heads = [
        {"folder": f"{lr}-{seed}", "group": "g", "lr": lr, "weight_decay": 0.0, "seed": seed}
        | {"val_top1": score, "val_loss": 1.0, "val_images": 0, "diverged": score is None}
        for lr, seed, score in ((1.0, 0, 99.0), (1.0, 1, None), (0.1, 0, 50.0), (0.1, 1, 52.0))
    ]
    leaderboard.write(tmp_path, heads)
    assert [(setting["lr"], setting["val_top1"]) for setting in board(tmp_path)["settings"]] == [
        (0.1, 51.0),
        (1.0, None),
    ]


@pytest.mark.parametrize("val_fraction", [0.0, 0.3])
@pytest.mark.parametrize("epochs", [1, 30])
def test_a_run_whose_heads_all_diverged_is_an_error(
    tmp_path: Path, cache: Path, val_fraction: float, epochs: int
) -> None:
    settings = config(cache, tmp_path / "run", val_fraction=val_fraction, **WILD | {"lr": (1000.0,)})
    with pytest.raises(
        RunError, match=r"run: diverged: .* not finite .*; give a smaller --lr and another --out$"
    ):
        train(settings)
    assert not (settings.run_dir / "head.safetensors").exists()
    assert not (settings.run_dir / "summary.json").exists()


@pytest.mark.parametrize("name", list(HEADS))
@pytest.mark.parametrize("val_fraction", [0.0, 0.3])
@pytest.mark.parametrize("damaged", ["training", "validation"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_damaged_maps_that_nobody_looks_for_never_end_as_a_trained_head(
    tmp_path: Path, name: str, val_fraction: float, damaged: str, value: float
) -> None:
    """With --no-verify; the normaliser's sample is all of these few images."""
    folder = write_cache(tmp_path / "cache")
    settings = config(folder, tmp_path / "run", head=name, val_fraction=val_fraction, verify=False)
    parts = parts_of(settings, FeatureCache(folder / "train.h5"))
    rows = parts[damaged == "validation"].rows
    if not len(rows):
        return
    overwrite(folder, rows, value)
    with pytest.raises((RunError, CacheError), match=r"no-verify|damaged: not all of its numbers are finite"):
        train(settings)
    assert not (settings.run_dir / "summary.json").exists()
