"""Stage two where images have several labels: from a cache to run folders, by mAP."""

import re
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from support.toy import config, write_cache, write_multilabel_cache
from support.trained import lines

from cache import FeatureCache
from pipeline.config import SweepConfig
from pipeline.errors import ConfigError
from pipeline.files import read_json
from pipeline.runs.folder import load_head
from pipeline.training.stage import parts_of, train
from pipeline.training.sweep import sweep


def validation_map(cache: FeatureCache, run: Path) -> float:
    """mAP of a run's head on its validation part by scikit-learn, in per cent."""
    loaded = load_head(run)
    _, part = parts_of(loaded.config, cache)
    logits = loaded.logits(torch.from_numpy(cache.take(part.rows, None))).numpy()
    scores = []
    for k in range(len(loaded.classes)):
        counted = part.labels[:, k] >= 0
        if (part.labels[counted, k] == 1).any():
            scores.append(average_precision_score(part.labels[counted, k], logits[counted, k]))
    return 100 * float(np.mean(scores))


@pytest.mark.parametrize("head", ["fullnet", "linear"])
def test_the_best_epoch_is_that_with_the_highest_validation_map(tmp_path: Path, head: str) -> None:
    cache = write_multilabel_cache(tmp_path)
    run = train(config(cache, tmp_path / "run", head=head, val_fraction=0.3, epochs=6, lr=(0.3,)))
    summary = read_json(run / "summary.json")
    assert summary["val_map"] == max(line["val_map"] for line in lines(run))
    assert summary["val_map"] == lines(run)[summary["best_epoch"] - 1]["val_map"]
    assert summary["val_map"] == pytest.approx(
        validation_map(FeatureCache(cache / "train.h5"), run), abs=1e-3
    )
    assert lines(run)[-1]["train_loss"] < lines(run)[0]["train_loss"]


@pytest.mark.parametrize(("head", "setting"), [("knn", "neighbours"), ("logistic", "l2")])
def test_a_head_that_is_computed_has_the_setting_with_the_highest_validation_map(
    tmp_path: Path, head: str, setting: str, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = write_multilabel_cache(tmp_path)
    run = train(config(cache, tmp_path / "run", head=head, val_fraction=0.3))
    summary = read_json(run / "summary.json")
    best = max(lines(run), key=lambda line: (line["val_map"], -line["val_loss"]))
    assert len({line["val_map"] for line in lines(run)}) > 1
    assert {name: summary[name] for name in best} == best
    expected = validation_map(FeatureCache(cache / "train.h5"), run)
    assert summary["val_map"] == pytest.approx(expected, abs=1e-3)
    said = rf"validation mAP {expected:.2f} % \[[\d.]+, [\d.]+\] with {setting} {best[setting]:g}\n"
    assert re.search(said, capsys.readouterr().out)


def test_a_sweep_over_heads_is_ranked_by_map(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are computed beside those that are trained."""
    cache = write_multilabel_cache(tmp_path)
    settings = {"epochs": 2, "hidden": (4,), "device": "cpu", "val_fraction": 0.3}
    names = ("recurrent-attention", "gap", "knn", "logistic")
    out = sweep(SweepConfig(cache=str(cache), out=str(tmp_path / "s"), head=names, seed=(0, 1), **settings))
    board = read_json(out / "leaderboard.json")
    scores = [head["val_map"] for head in board["heads"]]
    assert scores == sorted(scores, reverse=True)
    shapes = {setting["group"]: setting["seeds"] for setting in board["settings"]}
    assert shapes == {"recurrent-attention-ten-4": 2, "gap-ten": 2, "knn": 1, "logistic": 1}
    said = capsys.readouterr().out
    assert "validation mAP, %" in said
    assert all(f"\n{shape} " in said for shape in shapes)


def test_a_loss_that_does_not_suit_the_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--loss"):
        train(config(write_multilabel_cache(tmp_path), tmp_path / "run", loss="cross-entropy"))
    single = write_cache(tmp_path / "single")
    train(config(single, tmp_path / "bce", loss="bce", epochs=1))


def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    cache = write_multilabel_cache(tmp_path)
    settings = {"head": "linear", "epochs": 4, "val_fraction": 0.3}
    whole = train(config(cache, tmp_path / "whole", **settings))
    with (
        patch("pipeline.training.epochs.CHECKPOINT_SECONDS", -1),
        patch("pipeline.training.epochs.write_head", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        train(config(cache, tmp_path / "cut", **settings))
    cut = train(config(cache, tmp_path / "cut", resume=True, **settings))
    assert lines(cut)[-1]["val_map"] == lines(whole)[-1]["val_map"]
    assert (cut / "head.safetensors").read_bytes() == (whole / "head.safetensors").read_bytes()
