"""Cross-validation: all folds in one pass, as one after the other in a plain loop would train them."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from support.toy import config, write_cache, write_multilabel_cache
from support.trained import lines, weights
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.errors import RunError
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.training import stage
from pipeline.training.optimizer import CLIP, MOMENTUM, StackedSGD
from pipeline.training.schedule import schedule
from pipeline.training.stage import open_head, parts_of, train
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

    def epoch(self, epoch: int, left_out: int) -> float:
        """Every batch of the epoch, without the images of a fold; gives the mean loss of the images. A batch
        that is empty then has no gradient."""
        self.head.train()
        total, images = 0.0, 0
        order = np.random.default_rng((self.data_seed, epoch)).permutation(len(self.labels))
        batches = [order[i : i + BATCH] for i in range(0, len(order), BATCH)]
        for step, batch in enumerate(batches, epoch * len(batches)):
            assert self.part.folds is not None
            mine = torch.from_numpy(batch[self.part.folds[batch] != left_out])
            for group in self.optimizer.param_groups:
                group["lr"] = self.lr * schedule(step, EPOCHS * len(batches))
            self.optimizer.zero_grad()
            if len(mine):
                loss = self.head.losses(self.inputs[mine], self.labels[mine]).sum()
                loss.backward()
                total, images = total + float(loss) * len(mine), images + len(mine)
            else:
                for parameter in self.head.parameters():
                    parameter.grad = torch.zeros_like(parameter)
            gradients = [p.grad for p in self.head.parameters() if p.grad is not None]
            length = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
            for gradient in gradients:  # clip_grad_norm_ adds 1e-6 to the length
                gradient.mul_((CLIP / length).clamp(max=1))
            self.optimizer.step()
        return total / images

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
            losses = [one.epoch(epoch, fold) for fold, one in enumerate(plain)]
            assert found[epoch]["train_loss"] == pytest.approx(np.mean(losses), rel=1e-5)
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


@pytest.mark.parametrize("block", range(FOLDS + 1))
def test_a_head_that_diverges_in_one_fold_has_no_score(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """In its last step, after epochs with a score; a fold's as well as the one that would be kept."""
    steps, step = itertools.count(1), StackedSGD.step

    def last_is_wild(self: StackedSGD, factor: Any) -> None:
        step(self, factor)
        if next(steps) == EPOCHS * 6:
            self.parameters["output_bias"].data[block] = torch.nan

    monkeypatch.setattr(StackedSGD, "step", last_is_wild)
    with pytest.raises(RunError, match="run: diverged: "):
        train(settings(cache, tmp_path / "run"))
    assert next(steps) == EPOCHS * 6 + 1
