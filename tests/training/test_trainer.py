"""The training loop on its own, over batches made by the test."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.linear import Linear
from pipeline.maps.batches import Batch, Maps
from pipeline.pretraining.loop import WARM_UP as PRETRAINING_WARM_UP
from pipeline.training.optimizer import StackedSGD
from pipeline.training.schedule import WARM_UP, schedule
from pipeline.training.trainer import Plan, Trainer, default_batch
from pipeline.training.validation import validate


class Recorded(Maps):
    """Maps that remember the orders in which they were asked for."""

    folds = None

    def __init__(self, images: int) -> None:
        self.inputs, self.labels = torch.randn(images, 2), torch.arange(images) % 3
        self.orders: list[list[int]] = []

    def new_batch(self, size: int) -> Batch:
        return Batch(self.inputs[:size].clone(), self.labels[:size].clone())

    def shuffled(self, memory: Batch, rng: np.random.Generator, skip: int = 0) -> Iterator[Batch]:
        order = torch.tensor(rng.permutation(len(self.inputs)))
        self.orders.append(order.tolist())
        for rows in order.split(len(memory.labels))[skip:]:
            yield Batch(self.inputs[rows], self.labels[rows])

    def in_order(self, size: int) -> Iterator[Batch]:
        return map(Batch, self.inputs.split(size), self.labels.split(size))


def trainer(heads: int = 2, validation: bool = True, data_seed: int = 0) -> Trainer:
    head = Linear(HeadSpec(TrainConfig(), (2, 1, 1), 3, range(heads)))
    optimizer = StackedSGD(dict(head.named_parameters()), [0.1] * heads, [0.0] * heads)
    plan = Plan(epochs=4, batch=8, rows=20, data_seed=data_seed)
    return Trainer(head, optimizer, Recorded(20), Recorded(9) if validation else None, plan)


def orders(of: Trainer) -> list[list[int]]:
    assert isinstance(of.train, Recorded)
    return of.train.orders


def test_each_epoch_has_its_own_order_given_by_the_data_seed() -> None:
    one, same, other = trainer(), trainer(), trainer(data_seed=1)
    for epoch in range(3):
        for each in (one, same, other):
            each.epoch(epoch)
    assert len({tuple(order) for order in orders(one)}) == 3
    assert orders(one) == orders(same)
    assert orders(one) != orders(other)


@pytest.mark.parametrize(
    ("top1", "loss", "best"),
    [
        ([50, 70, 60], [3, 3, 1], 1),
        ([50, 70, 70], [3, 2, 1], 2),
        ([50, 70, 70], [3, 1, 2], 1),
        ([70, 70, 70], [1, 1, 1], 0),
        ([70, 70, 70], [np.nan, 2, np.nan], 1),
    ],
)
def test_each_head_keeps_the_weights_of_its_own_best_epoch(
    top1: Sequence[float], loss: Sequence[float], best: int
) -> None:
    """The other head of the stack gets better with each epoch."""
    subject = trainer()
    scores = iter(zip(top1, loss, strict=True))
    subject._validate = lambda: tuple(  # pyright: ignore[reportAttributeAccessIssue]
        np.array([value, 100.0 * epoch]) for value in next(scores)
    )
    weights = []
    for epoch in range(3):
        subject.epoch(epoch)
        weights.append(subject.head.get_parameter("weight").detach().clone())
    assert subject.best_epoch.tolist() == [best, 2]
    assert torch.equal(subject.best["weight"][0], weights[best][0])
    assert torch.equal(subject.best["weight"][1], weights[2][1])


def test_a_head_that_diverged_has_no_score_and_costs_the_others_nothing() -> None:
    subject = trainer()
    with torch.no_grad():
        next(subject.head.parameters())[0] = torch.nan  # the maximum of NaN is at class 0
    answers = validate({None: subject.head}, Recorded(9))
    for figures in (answers.scores(), answers.on_draws()):
        assert np.isnan(figures[0]).all()
        assert np.isfinite(figures[1]).all()


def test_without_a_validation_part_the_last_epoch_counts() -> None:
    subject = trainer(validation=False)
    for epoch in range(3):
        assert "val_top1" not in subject.epoch(epoch)[0]
    assert subject.best_epoch.tolist() == [2, 2]
    assert torch.equal(subject.best["weight"], subject.head.get_parameter("weight"))


def test_losses_are_means_over_images_whatever_the_batches() -> None:
    subject = trainer()
    for parameter in subject.optimizer.parameters.values():
        parameter.requires_grad_(True)
    subject.optimizer.step = lambda factor: None  # pyright: ignore[reportAttributeAccessIssue]
    lines = subject.epoch(0)
    assert isinstance(subject.train, Recorded)
    logits = subject.head(subject.train.inputs)
    for m, line in enumerate(lines):
        expected = torch.nn.functional.cross_entropy(logits[m], torch.arange(20) % 3)
        assert line["train_loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("warm_up", [WARM_UP, PRETRAINING_WARM_UP])
def test_the_learning_rate_climbs_to_its_peak_and_falls_whatever_the_number_of_steps(warm_up: float) -> None:
    for steps in (*range(1, 1500), 3001, 4999, 12_345):
        shares = np.array([schedule(step, steps, warm_up) for step in range(steps)])
        peak = int(shares.argmax())
        assert shares.min() > 0
        assert shares.max() == 1
        assert (np.diff(shares[: peak + 1]) > 0).all()
        assert (np.diff(shares[peak + 1 :]) < 0).all()
        assert abs(peak + 1 - max(1, warm_up * steps)) <= 0.5


def test_batches_grow_with_the_images() -> None:
    assert [default_batch(rows) for rows in (5, 256, 1600, 45_000)] == [16, 16, 100, 512]
