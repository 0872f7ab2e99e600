"""A leaderboard says how sure its scores are, and which settings can't be told apart from the first."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from support.toy import config, write_cache
from support.trained import board

from cache import FeatureCache
from pipeline.config import SweepConfig
from pipeline.errors import RunError
from pipeline.metrics.bootstrap import top1_interval
from pipeline.runs import leaderboard
from pipeline.runs.draws import DRAWS, read_draws, write_draws
from pipeline.runs.folder import load_head
from pipeline.runs.score import TOP1
from pipeline.training.stage import parts_of, train
from pipeline.training.sweep import sweep


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), images=240, noise=6.0)


def right(cache: Path, heads: list[Path]) -> np.ndarray:
    """Which validation images each head answers right, (heads, images)."""
    data = FeatureCache(cache / "train.h5")
    _, val = parts_of(config(cache, cache, val_fraction=0.3), data)
    maps = torch.from_numpy(data.take(val.rows, view=None))
    return np.stack([load_head(head).logits(maps).argmax(1).numpy() == val.labels for head in heads])


def test_settings_have_intervals_of_their_own_and_against_the_first(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {"epochs": 3, "device": "cpu", "val_fraction": 0.3, "batch": 16}
    shapes: dict[str, Any] = {"head": ("linear", "gap", "logistic", "knn"), "seed": (0, 1), "lr": (0.1, 1e-6)}
    out = sweep(SweepConfig(cache=str(cache), out=str(tmp_path / "run"), **settings, **shapes))
    said, found = capsys.readouterr().out, board(out)
    answers = {}
    for line in found["settings"]:
        heads = [h for h in found["heads"] if all(h[name] == line[name] for name in leaderboard.KEYS)]
        answers[id(line)] = hits = right(cache, [out / head["folder"] for head in heads])
        assert line["val_images"] == hits.shape[1] == 72
        assert line["val_top1"] == pytest.approx(100 * hits.mean())
        for head, own in zip(heads, hits, strict=True):
            wilson = binomtest(int(own.sum()), 72).proportion_ci(0.95, method="wilson")
            assert (head["val_top1_low"], head["val_top1_high"]) == pytest.approx(
                (100 * wilson.low, 100 * wilson.high)
            )
    first, *others = found["settings"]
    assert first["minus_first"] is None
    alike = 0
    for line in others:
        expected = top1_interval(answers[id(first)], answers[id(line)], resamples=50_000)
        assert line["minus_first"]["difference"] == pytest.approx(expected.difference)
        ends = (line["minus_first"]["low"], line["minus_first"]["high"])
        assert ends == pytest.approx((expected.low, expected.high), abs=1.5)
        alike += expected.high >= 0
    assert 0 < alike < len(others)
    assert f"intervals over 72 validation images; {alike} of the other 5 can't be told apart from the" in said
    assert "only 72 validation images: each counts for 1.4 points" in said.splitlines()[-1]


def entry(
    folder: Path, name: str, lr: float, seed: int, score: float | None, images: int = 400
) -> dict[str, Any]:
    """A head's summary, with its scores on draws: 10 points around its score."""
    (folder / name).mkdir(parents=True)
    value = np.nan if score is None else score
    write_draws(folder / name, np.linspace(value - 5, value + 5, 1000).astype(np.float32))
    figures = TOP1.figures(value, images, read_draws(folder / name))
    loss = None if score is None else 1.0
    return {
        "folder": name,
        "group": "g",
        "lr": lr,
        "weight_decay": 0.0,
        "seed": seed,
        "diverged": score is None,
        "val_loss": loss,
        **figures,
    }


def test_a_setting_with_a_head_that_diverged_has_no_score_and_is_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [(0.1, 0, 80.0), (0.1, 1, 82.0), (0.3, 0, 90.0), (0.3, 1, None)]
    leaderboard.write(tmp_path, [entry(tmp_path, f"{lr}-{seed}", lr, seed, s) for lr, seed, s in scores])
    good, diverged = board(tmp_path)["settings"]
    assert (good["lr"], good["val_top1"]) == (0.1, 81.0)
    names = ("val_top1", "val_top1_low", "val_top1_high", "val_loss", "minus_first")
    assert [diverged[name] for name in names] == [None] * 5
    assert board(tmp_path)["heads"][-1]["val_top1"] is None
    said = capsys.readouterr().out
    assert "nan" not in said
    assert "1 diverged" in said
    assert said.endswith("intervals over 400 validation images\n")


def test_many_images_need_no_warning_and_a_damaged_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = [entry(tmp_path, str(i), 0.1, i, 80.0, images=100 - i) for i in range(2)]
    leaderboard.write(tmp_path, heads[:1])
    assert "only" not in capsys.readouterr().out
    leaderboard.write(tmp_path, heads[1:])
    assert "only 99 validation images: each counts for 1.0 points" in capsys.readouterr().out
    (tmp_path / "1" / DRAWS).write_bytes(b"no")
    with pytest.raises(RunError, match=r"1/validation\.npy: can't be read .*; train the head again with ano"):
        leaderboard.write(tmp_path, heads)


def test_without_validation_there_is_no_interval(tmp_path: Path, cache: Path) -> None:
    run = train(config(cache, tmp_path, val_fraction=0.0, seed=(0, 1), epochs=1))
    for line in (*board(run)["settings"], *board(run)["heads"]):
        names = ("val_top1", "val_top1_low", "val_top1_high", "val_images")
        assert [line[name] for name in names] == [None, None, None, 0]
    assert not [*run.rglob(DRAWS)]
