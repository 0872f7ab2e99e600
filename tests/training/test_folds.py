"""Cross-validation: all folds in one pass, as one after the other in a plain loop would train them."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
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
from pipeline.maps.source import Source, drawn_views
from pipeline.runs.folder import load_run
from pipeline.training import epochs, stage
from pipeline.training.optimizer import CLIP, MOMENTUM
from pipeline.training.schedule import schedule
from pipeline.training.stage import open_head, parts_of, train
from pipeline.training.sweep import sweep
from pipeline.training.trainer import Trainer

FOLDS, BATCH, EPOCHS, IMAGES = 3, 16, 3, 49


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cache(tmp_path_factory.mktemp("cache"), noise=5.0)


def settings(cache: Path, out: Path, **changed: Any) -> TrainConfig:
    return config(cache, out, **{"folds": FOLDS, "batch": BATCH, "epochs": EPOCHS, **changed}).resolved()


class Plain:
    """A single head trained by torch's own optimizer on the images that it doesn't leave out."""

    def __init__(self, asked: TrainConfig, seed: int, lr: float, decay: float) -> None:
        self.cache = FeatureCache(Path(asked.cache) / "train.h5")
        self.part, _ = parts_of(asked, self.cache)
        self.head, source = open_head(asked, self.cache, [seed], len(self.part.rows))
        source.fit_normaliser(self.part.rows)
        self.inputs = source.inputs(source.take(self.part.rows))
        self.labels = torch.tensor(self.part.labels)
        matrices = [p for p in self.head.parameters() if p.ndim > 2]
        vectors = [p for p in self.head.parameters() if p.ndim <= 2]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0}]
        adam = asked.optimizer == "adam"
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(groups, lr)
            if adam
            else torch.optim.SGD(groups, lr, momentum=MOMENTUM, nesterov=True)
        )
        self.lr, self.data_seed = lr, asked.data_seed

    def epoch(self, epoch: int, left_out: int) -> None:
        """Every batch of the epoch, without the images of a fold; an empty one has no gradient."""
        self.head.train()
        order = np.random.default_rng((self.data_seed, epoch)).permutation(len(self.labels))
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        for step, batch in enumerate(batches, epoch * len(batches)):
            assert self.part.folds is not None
            mine = torch.from_numpy(batch[self.part.folds[batch] != left_out])
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * schedule(step, EPOCHS * len(batches))
            self.optimizer.zero_grad()
            if len(mine):
                self.head.losses(self.inputs[mine], self.labels[mine]).sum().backward()
            else:
                for parameter in self.head.parameters():
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [p.grad for p in self.head.parameters() if p.grad is not None]
            length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            for gradient in gradients:  # clip_grad_norm_ adds 1e-6 to the length
                gradient.mul_((CLIP / length).clamp(max=1))
            self.optimizer.step()

    @torch.no_grad()
    def scores(self) -> torch.Tensor:
        self.head.eval()
        return self.head(self.inputs)[0]


def mean_ap(scores: torch.Tensor, labels: torch.Tensor) -> float:
    """By scikit-learn, of the labels that are counted."""
    counted = [labels[:, k] >= 0 for k in range(3)]
    return float(
        np.mean([average_precision_score(labels[w, k], scores[w, k]) for k, w in enumerate(counted)])
    )


def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Trainer, dict[str, torch.Tensor]]]:
    """Collects what trains, with all weights after the last epoch, before the heads get their best ones."""
    ended: list[tuple[Trainer, dict[str, torch.Tensor]]] = []
    answers = Trainer.answers

    def last(self: Trainer) -> Any:
        ended.append((self, {name: p.detach().clone() for name, p in self.head.named_parameters()}))
        return answers(self)

    monkeypatch.setattr(Trainer, "answers", last)
    return ended


@pytest.mark.parametrize(
    ("head", "several", "where"),
    [
        *(("linear", several, "prepared") for several in (False, True)),
        *(("fullnet", False, where) for where in ("prepared", "stored", "on disk")),
        ("gmp", True, "prepared"),
        ("csra", False, "prepared"),
        ("recurrent-attention", True, "prepared"),
    ],
)
def test_folds_in_one_pass_end_as_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str, several: bool, where: str
) -> None:
    """Weights of every fold's head, scores and losses of each epoch over all images, and the head that is
    kept. The last batch has a single image, which some heads leave out."""
    rates, seeds = ((0.05, 0.2), (3, 4)) if head == "linear" else ((0.05,), (3,))
    small = {"crops": "center", "steps": 2} if head == "recurrent-attention" else {}
    write = write_multilabel_cache if several else write_cache
    asked = settings(
        write(tmp_path / "cache", images=IMAGES), tmp_path / "run", head=head, lr=rates, seed=seeds, **small
    )
    if where != "prepared":
        free = {"cpu": 50_000 if where == "stored" else 0}
        monkeypatch.setattr(stage, "free_for_maps", lambda *_: dict(free))
        monkeypatch.setattr(Source, "input_bytes", lambda self, images: 1 << 40)
    ended = trained(monkeypatch)
    run = train(asked)
    ((trainer, last),) = ended
    assert type(trainer.train).__name__ == ("MapsOnDisk" if where == "on disk" else "MapsInMemory")
    members = list(itertools.product(rates, seeds))
    for m, (lr, seed) in enumerate(members):
        plain = [Plain(asked, seed, lr, 5e-4) for _ in range(FOLDS + 1)]
        folds = plain[0].part.folds
        assert folds is not None
        found = lines(folder := run / f"lr{lr:g}-wd0.0005-seed{seed}" if len(members) > 1 else run)
        kept = []
        for epoch in range(EPOCHS):
            for fold, one in enumerate(plain):
                one.epoch(epoch, fold)
            kept.append({name: p.detach().clone() for name, p in plain[-1].head.named_parameters()})
            scores = torch.stack([plain[fold].scores()[i] for i, fold in enumerate(folds)])
            labels = plain[0].labels
            if several:
                loss = binary_cross_entropy_with_logits(scores, (labels == 1).double(), reduction="none")
                loss = float((loss * (labels >= 0)).sum(1).mean())
                score = mean_ap(scores, labels)
            else:
                loss, score = (
                    float(cross_entropy(scores, labels)),
                    (scores.argmax(1) == labels).double().mean(),
                )
            assert found[epoch]["val_loss"] == pytest.approx(loss, rel=1e-6)
            assert found[epoch]["val_map" if several else "val_top1"] == pytest.approx(
                100 * float(score), abs=1e-4
            )
        for fold, one in enumerate(plain):
            for name, parameter in one.head.named_parameters():
                torch.testing.assert_close(
                    last[name][fold * len(members) + m], parameter[0], rtol=0, atol=1e-8
                )
        summary = json.loads((folder / "summary.json").read_text())
        for name, values in kept[summary["best_epoch"] - 1].items():
            torch.testing.assert_close(weights(folder)[f"head.{name}"], values.detach(), rtol=0, atol=1e-8)
        assert (summary["val_images"], summary["folds"]) == (IMAGES, FOLDS)
        assert summary["heads_at_once"] == 4 * len(members)


def test_a_fold_s_head_knows_nothing_of_the_labels_of_its_fold(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other labels in fold 1 leave its head as it was, to the last bit, and no other one."""
    ended, split = trained(monkeypatch), stage.parts_of
    train(settings(cache, tmp_path / "one"))

    def mislabelled(*given: Any) -> tuple[Part, Part]:
        part, none = split(*given)
        return part._replace(labels=np.where(part.folds == 1, (part.labels + 1) % 3, part.labels)), none

    monkeypatch.setattr(stage, "parts_of", mislabelled)
    train(settings(cache, tmp_path / "other"))
    (_, one), (_, other) = ended
    for name in one:
        same = [torch.equal(a, b) for a, b in zip(one[name], other[name], strict=True)]
        assert same == [False, True, False, False]


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
        load_run(run),
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
