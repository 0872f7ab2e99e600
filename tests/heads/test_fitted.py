"""Heads that are computed at once, against scikit-learn on the same pooled maps."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from toy import config, write_cache

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.heads import knn
from pipeline.heads.base import Examples, HeadSpec
from pipeline.heads.knn import COUNTS, TEMPERATURE, NearestNeighbours
from pipeline.heads.logistic import STRENGTHS, Logistic
from pipeline.labels import split
from pipeline.predictions import predict
from pipeline.runs import load_head
from pipeline.train import train

CLASSES = 4


def examples(images: int, seed: int, dtype: torch.dtype = torch.float64) -> Examples:
    """Five channels, four classes that overlap."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (images,), generator=draw)
    centres = torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(9))
    return Examples((centres[labels] + torch.randn(images, 5, generator=draw)).to(dtype), labels)


def spec(images: int) -> HeadSpec:
    return HeadSpec(TrainConfig(), (5, 3, 3), CLASSES, (0,), images)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 2e-3)])
@pytest.mark.parametrize("strength", range(len(STRENGTHS)))
def test_logistic_regression_is_scikit_learn_s(
    monkeypatch: pytest.MonkeyPatch, strength: int, dtype: torch.dtype, tolerance: float
) -> None:
    """Probabilities within 1e-5 in float64 and 2e-3 in float32, for each strength, from the one before."""
    monkeypatch.setattr("pipeline.heads.logistic.STRENGTHS", STRENGTHS[: strength + 1])
    monkeypatch.setattr("pipeline.heads.logistic.best_of", lambda lines: len(lines) - 1)
    data, others = examples(300, 0, dtype), examples(100, 1, dtype)
    head = Logistic(spec(300)).to(dtype)
    chosen, _ = head.fit(data, others)
    assert chosen["l2"] == STRENGTHS[strength]
    theirs = LogisticRegression(C=1 / (300 * chosen["l2"]), tol=1e-10, max_iter=10_000)
    theirs.fit(data.inputs.double().numpy(), data.labels.numpy())
    expected = theirs.predict_proba(others.inputs.double().numpy())
    found = head(others.inputs)[0].softmax(1).detach().double().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("cells", [1, 1 << 24])
@pytest.mark.parametrize("k", [1, 7, 100])
def test_neighbours_vote_as_scikit_learn_s_do(monkeypatch: pytest.MonkeyPatch, k: int, cells: int) -> None:
    monkeypatch.setattr(knn, "CELLS", cells)
    data, others = examples(300, 0), examples(50, 1)
    head = NearestNeighbours(spec(300)).double()
    head.fit(data, None)
    head.neighbours.fill_(k)
    weigh: Any = lambda far: np.exp((1 - far) / TEMPERATURE)  # noqa: E731
    theirs = KNeighborsClassifier(k, metric="cosine", weights=weigh)
    theirs.fit(data.inputs.numpy(), data.labels.numpy())
    shares = np.asarray(theirs.predict_proba(others.inputs.numpy()))
    expected = (k * shares + 1 / CLASSES) / (k + 1)
    np.testing.assert_allclose(head(others.inputs)[0].softmax(1).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("head", [NearestNeighbours, Logistic])
def test_the_setting_that_validates_best_is_taken(head: type[NearestNeighbours] | type[Logistic]) -> None:
    data, others = examples(150, 0), examples(60, 1)
    fitted = head(spec(150)).double()
    chosen, lines = fitted.fit(data, others)
    assert len(lines) == len(STRENGTHS if head is Logistic else [k for k in COUNTS if k <= 150])
    assert len({line["val_loss"] for line in lines}) == len(lines)
    assert (-chosen["val_top1"], chosen["val_loss"]) == min((-x["val_top1"], x["val_loss"]) for x in lines)
    logits = fitted(others.inputs)[0].detach()
    assert 100 * (logits.argmax(1) == others.labels).double().mean() == pytest.approx(chosen["val_top1"])
    assert torch.nn.functional.cross_entropy(logits, others.labels) == pytest.approx(chosen["val_loss"])


@pytest.mark.parametrize("name", ["knn", "logistic"])
@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_a_run_folder_like_any_other(tmp_path: Path, name: str, fraction: float) -> None:
    """Learned from the training part alone, scored on the test split, repeated exactly."""
    folder = write_cache(tmp_path / "cache", noise=4.0)
    write_cache(tmp_path / "cache", images=30, noise=4.0, split="test")
    settings = config(folder, tmp_path / "run", head=name, val_fraction=fraction, lr=(0.1, 0.2), seed=(0, 1))
    run = train(settings)
    found, data = predict(run), FeatureCache(folder / "train.h5")
    assert found.logits.shape == (30, 3)
    assert found.correct.mean() > 0.6
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["lr"], summary["seed"]) == (None, None)
    if fraction:
        _, val = split(data.labels, data.classes, settings)
        logits = load_head(run).logits(torch.from_numpy(data.take(val.rows, view=None)))
        top1 = 100 * (logits.argmax(1).numpy() == val.labels).mean()
        assert summary["val_top1"] == pytest.approx(top1)
    again = train(config(folder, tmp_path / "again", head=name, val_fraction=fraction))
    assert (again / "head.safetensors").read_bytes() == (run / "head.safetensors").read_bytes()


def test_maps_that_do_not_fit_into_the_budget_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    folder = write_cache(tmp_path / "cache", images=3000, shape=(64, 2, 2))
    with pytest.raises(
        ConfigError, match=r"--memory-budget-mb: knn takes all images at once, .* found 1; raise"
    ):
        train(config(folder, tmp_path / "run", head="knn", memory_budget_mb=1))
    assert not (tmp_path / "run").exists()
