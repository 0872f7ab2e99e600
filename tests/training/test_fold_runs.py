"""Runs by cross-validation: their folds, scores, logs and heads, and what they refuse."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import PredefinedSplit, StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from support.toy import config, write_cache, write_multilabel_cache
from support.trained import assert_same, board, lines, stamps, weights
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from cache import FeatureCache
from pipeline.config import EvaluateConfig, SweepConfig, TrainConfig
from pipeline.errors import ConfigError, RunError
from pipeline.evaluation.stage import evaluate
from pipeline.maps.parts import Part
from pipeline.maps.source import drawn_views
from pipeline.runs.folder import load_head
from pipeline.runs.out_of_fold import OUT_OF_FOLD, read_out_of_fold
from pipeline.training import epochs, fitting, stage, trainer
from pipeline.training.stage import parts_of, train
from pipeline.training.sweep import sweep

FOLDS, BATCH, EPOCHS = 3, 16, 3


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), noise=5.0)


def settings(cache: Path, out: Path, **changed: Any) -> TrainConfig:
    return config(cache, out, **{"folds": FOLDS, "batch": BATCH, "epochs": EPOCHS, **changed}).resolved()


@pytest.mark.parametrize("views", ["plain", "augment:2"])
@pytest.mark.parametrize("head", ["logistic", "knn"])
def test_a_head_that_is_computed_predicts_each_fold_as_scikit_learn_does(
    tmp_path: Path, head: str, views: str
) -> None:
    """All views of an image are left out with it. The head that is kept learned from all."""
    folder = write_cache(tmp_path / "cache", noise=8.0, views=views)
    asked = settings(folder, tmp_path / "run", head=head)
    run, data = train(asked), FeatureCache(folder / "train.h5")
    loaded, summary, (part, _) = (
        load_head(run),
        json.loads((run / "summary.json").read_text()),
        parts_of(asked, data),
    )
    drawn, folds = drawn_views(data), part.folds
    assert folds is not None
    maps = torch.from_numpy(data.take(part.rows, view=None))
    inputs = loaded.inputs(maps.flatten(0, 1)[:, None]).double().numpy()  # every view is an example
    labels, of_view = part.labels.repeat(drawn), folds.repeat(drawn)

    def model(examples: int) -> Any:
        if head == "knn":
            weigh: Any = lambda far: np.exp((1 - far) / 0.07)  # noqa: E731
            return KNeighborsClassifier(summary["neighbours"], metric="cosine", weights=weigh)
        return LogisticRegression(C=1 / (summary["l2"] * examples), tol=1e-10, max_iter=10_000)

    examples = len(inputs) * (FOLDS - 1) // FOLDS
    shares = cross_val_predict(
        model(examples), inputs, labels, cv=PredefinedSplit(of_view), method="predict_proba"
    )
    plain = np.asarray(shares)[::drawn]
    right = plain.argmax(1) == part.labels
    assert 0.4 < right.mean() < 0.99
    assert summary["val_top1"] == pytest.approx(100 * right.mean())
    assert summary["val_images"] == 90
    logits = read_out_of_fold(run, 3).logits
    np.testing.assert_allclose(
        torch.from_numpy(logits).softmax(1), plain, atol=2e-2 if head == "knn" else 1e-5
    )
    if head == "logistic":
        loss = -np.log(plain[np.arange(90), part.labels]).mean()
        assert summary["val_loss"] == pytest.approx(loss, rel=1e-4)
    kept = model(len(inputs)).fit(inputs, labels).predict(inputs[::drawn])
    found = loaded.logits(maps).argmax(1).numpy()
    assert (kept == found).mean() > 0.98  # neighbours may be tied
    everything = train(config(folder, tmp_path / "all", head=head, val_fraction=0.0))
    assert weights(run)["normaliser.mean"].equal(weights(everything)["normaliser.mean"])


@pytest.mark.parametrize("several", [False, True])
def test_folds_have_as_many_images_of_each_class_as_scikit_learn_s(tmp_path: Path, several: bool) -> None:
    write = write_multilabel_cache if several else write_cache
    data = FeatureCache(write(tmp_path, images=100) / "train.h5")
    drawn = {
        seed: parts_of(settings(tmp_path, tmp_path, data_seed=seed), data)[0].folds for seed in (0, 0, 1)
    }
    folds = drawn[0]
    assert folds is not None
    assert (folds != drawn[1]).any()
    assert sorted(np.bincount(folds)) == [33, 33, 34]
    if not several:
        theirs = [
            np.bincount(data.labels[test]) for _, test in StratifiedKFold(3).split(data.labels, data.labels)
        ]
        ours = [np.bincount(data.labels[folds == k]) for k in range(3)]
        assert sorted(map(sum, ours)) == sorted(map(sum, theirs))
        assert np.ptp(ours, axis=0).max() <= 1


def test_a_run_by_folds_goes_on_from_its_checkpoint_and_is_then_up_to_date(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped within an epoch."""
    flags: dict[str, Any] = {"dropout": 0.3, "lr": (0.3, 0.05)}
    whole = train(settings(cache, tmp_path / "whole", **flags))
    moments = itertools.count()

    def stops(self: epochs.Checkpoint) -> None:
        if next(moments) == 9:
            self.trainer.save(self.path)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(epochs.Checkpoint, "save_if_due", stops)
        with pytest.raises(KeyboardInterrupt):
            train(settings(cache, tmp_path / "run", **flags))
    run = train(settings(cache, tmp_path / "run", resume=True, **flags))
    for member in ("lr0.3-wd0.0005-seed0", "lr0.05-wd0.0005-seed0"):
        assert lines(run / member) == lines(whole / member)
        assert_same(run / member, whole / member)
    before = stamps(run)
    train(settings(cache, tmp_path / "run", **flags))
    assert stamps(run) == before
    assert "up to date" in capsys.readouterr().out
    with pytest.raises(RunError, match=r"holds a run made with --folds 3, not 4; give another --out"):
        train(settings(cache, tmp_path / "run", **flags, folds=4))


def test_a_sweep_by_folds_is_ranked_and_its_best_head_evaluated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trained in processes."""
    folder = write_cache(tmp_path / "cache", noise=5.0)
    write_cache(folder, images=30, noise=5.0, split="test")
    flags: dict[str, Any] = {"head": ("linear", "gap", "logistic"), "epochs": 2, "folds": 3, "device": "cpu"}
    out = sweep(SweepConfig(cache=str(folder), out=str(tmp_path / "all"), jobs=2, **flags))
    alone = train(
        config(folder, tmp_path / "alone", **{**flags, "head": "linear"}, batch=None, precision="float32")
    )
    assert_same(out / "linear", alone)
    said = capsys.readouterr().out
    assert "90 images to train on, 90 of them to validate in 3 folds" in said  # of the one alone
    assert "intervals over 90 validation images in 3 folds" in said
    assert "only 90 validation images: each counts for 1.1 points; give more images" in said
    assert {(line["folds"], line["val_images"]) for line in board(out)["settings"]} == {(3, 90)}
    metrics = json.loads(evaluate(EvaluateConfig(run=(str(out),), device="cpu")).read_text())
    assert metrics["images"] == 30
    assert metrics["top1"] > 60


def test_images_alone_in_their_class_are_learned_from_and_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = stage.split

    def with_one(*given: Any, **named: Any) -> tuple[Part, Part]:
        part, none = split(*given, **named)
        keep = np.flatnonzero((part.labels < 2) | (np.cumsum(part.labels == 2) == 1))
        return Part(part.rows[keep], part.labels[keep]), none

    monkeypatch.setattr(stage, "split", with_one)
    for head in ("linear", "logistic"):
        summary = json.loads(
            (train(settings(cache, tmp_path / head, head=head)) / "summary.json").read_text()
        )
        assert summary["val_images"] == 60
    assert (
        "61 images to train on, 60 of them to validate in 3 folds; 1 that is alone in a"
        in capsys.readouterr().out
    )


def test_what_does_not_go_with_folds_is_refused_in_a_line(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (TrainConfig, SweepConfig):
        for fraction in (0.0, 0.1):
            with pytest.raises(ConfigError) as caught:
                kind(folds=5, val_fraction=fraction)
            assert caught.value.problem == "takes the place of --val-fraction; leave one of them out"
            assert str(caught.value.field).endswith(".folds")
    with pytest.raises(ConfigError, match="expected a whole number from 2 to 100, found 1"):
        TrainConfig(folds=1)
    with pytest.raises(ConfigError, match=r"^--folds: expected at least 95 images .*, found 90; give fewer"):
        train(settings(cache, tmp_path / "run", folds=95))
    monkeypatch.setattr(stage, "own_rows", lambda identity: 30)
    with pytest.raises(ConfigError, match=r"^--folds: .*train.h5 has 30, which choose"):
        train(settings(cache, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("head", ["linear", "fullnet", "logistic"])
def test_every_head_keeps_logits_that_have_its_score_and_loss(
    tmp_path: Path, head: str, several: bool
) -> None:
    """In the order of the cache's rows. Of --classes, those of their images alone."""
    folder = (write_multilabel_cache if several else write_cache)(tmp_path / "cache")
    settings_: dict[str, Any] = {} if head == "logistic" else {"lr": (0.1, 0.02)}
    run = train(settings(folder, tmp_path / "run", head=head, classes=("cow", "bee"), **settings_))
    data = FeatureCache(folder / "train.h5")
    for each in [run] if head == "logistic" else sorted(path for path in run.iterdir() if path.is_dir()):
        found, summary = read_out_of_fold(each, 2), json.loads((each / "summary.json").read_text())
        logits = torch.from_numpy(found.logits).double()
        if several:
            labels = torch.from_numpy(data.labels[found.rows][:, [2, 1]]).double()
            counted = (labels >= 0).double()
            losses = binary_cross_entropy_with_logits(logits, labels.clamp(min=0), counted, reduction="sum")
            loss, rows = float(losses) / len(labels), np.arange(len(data))
        else:
            labels = torch.from_numpy(np.where(data.labels[found.rows] == 2, 0, 1))
            loss, rows = float(cross_entropy(logits, labels)), np.flatnonzero(data.labels > 0)
            assert summary["val_top1"] == pytest.approx(
                100 * float((logits.argmax(1) == labels).double().mean())
            )
        assert found.rows.tolist() == rows.tolist()
        assert summary["val_loss"] == pytest.approx(loss, rel=1e-5)


def test_logits_out_of_fold_are_few_enough_to_keep_and_refused_if_damaged(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(settings(cache, tmp_path / "run"))
    with pytest.raises(
        RunError, match=r"out_of_fold.npy: expected a row and 4 finite logits .*, found \(90, 3\)"
    ):
        read_out_of_fold(run, 4)
    whole = (run / OUT_OF_FOLD).read_bytes()
    broken = whole[:-1], b"", whole.replace(b"logits", b"lagits"), whole[:-4] + b"\0\0\xc0\x7f"
    for data in (*broken, whole.replace(b"(90,)", b"(9000000000000000,)")):
        (run / OUT_OF_FOLD).write_bytes(data)
        with pytest.raises(RunError, match=r"out_of_fold.npy: .*; train the head again with another --out"):
            read_out_of_fold(run, 3)
    for module in (trainer, fitting):
        monkeypatch.setattr(module, "LARGEST", 90 * 3 * 4 - 1)
    for head in ("fullnet", "logistic"):
        large = train(settings(cache, tmp_path / head, head=head))
        with pytest.raises(RunError, match=r"has no scores of images .*; train it again with --folds 5"):
            read_out_of_fold(large, 3)
