"""The step that a GPU replays, with a recorder that works on any device: it calls again what it was given."""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.fullnet import FullNet
from pipeline.training.optimizer import StackedSGD
from pipeline.training.step import WARM_UP, RecordedStep, Step, make_step

CPU = torch.device("cpu")


def batches(sizes: list[int]) -> list[tuple[Tensor, Tensor, float]]:
    """Each in memory of its own, with a learning rate of its own."""
    draw = torch.Generator().manual_seed(0)
    return [
        (torch.randn(n, 5, 18, generator=draw), torch.randint(3, (n,), generator=draw), 1.0 / (i + 1))
        for i, n in enumerate(sizes)
    ]


def live(head: FullNet) -> Step:
    return make_step(head, StackedSGD(dict(head.named_parameters()), [0.1, 0.3], [1e-3, 0.0]), CPU)


def test_replayed_steps_end_as_live_ones_whatever_the_sizes_of_batches() -> None:
    one = FullNet(HeadSpec(TrainConfig(hidden=(4,)), (2, 5, 5), 3, (0, 1)))
    other = deepcopy(one)
    recorded = []

    def record(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        recorded.append(call)
        return call

    step = RecordedStep(live(other), CPU, record, nullcontext)  # pyright: ignore[reportArgumentType]
    reference = live(one)
    for inputs, labels, factor in batches([8, 8, 3, 8, 8, 8, 3, 8]):
        torch.testing.assert_close(step(inputs, labels, factor), reference(inputs, labels, factor))
    assert len(recorded) == 1
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(other.get_parameter(name), parameter, rtol=0, atol=1e-7)


def test_a_recording_is_made_once_after_the_warm_up_and_replayed_on_what_was_copied_in() -> None:
    seen = []

    def step(inputs: Tensor, labels: Tensor, factor: Tensor) -> Tensor:
        seen.append((inputs.data_ptr(), inputs[0, 0, 0].item(), float(factor)))
        return inputs.sum()[None]

    subject = RecordedStep(step, CPU, lambda call: call, nullcontext)
    made = batches([4] * (WARM_UP + 3))
    for batch in made:
        subject(*batch)
    assert [values for _, *values in seen] == [[x[0, 0, 0].item(), pytest.approx(f)] for x, _, f in made]
    assert len({address for address, *_ in seen[WARM_UP:]}) == 1


def test_batches_that_come_in_the_same_memory_each_time_are_read_there() -> None:
    seen = []

    def step(inputs: Tensor, labels: Tensor, factor: Tensor) -> Tensor:
        seen.append((inputs.data_ptr(), inputs[0, 0, 0].item(), labels[0].item()))
        return inputs.sum()[None]

    subject = RecordedStep(step, CPU, lambda call: call, nullcontext)
    made = batches([4] * (WARM_UP + 3))
    again = torch.empty_like(made[0][0])
    for inputs, labels, factor in made:
        subject(again.copy_(inputs), labels, factor)
    assert [values for _, *values in seen] == [[x[0, 0, 0].item(), y[0].item()] for x, y, _ in made]
    assert {address for address, *_ in seen} == {again.data_ptr()}
    other = made[0][0].clone()
    subject(other, made[0][1], 1.0)
    assert seen[-1] == (again.data_ptr(), other[0, 0, 0].item(), made[0][1][0].item())


@pytest.mark.parametrize(("dropout", "recordable"), [(0.0, True), (0.2, False)])
def test_steps_that_draw_random_numbers_are_not_recorded(dropout: float, recordable: bool) -> None:
    assert FullNet(HeadSpec(TrainConfig(dropout=dropout), (2, 5, 5), 3, (0,))).recordable == recordable


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_s_replayed_steps_end_as_a_cpu_s() -> None:
    torch.set_float32_matmul_precision("highest")  # training on a GPU leaves it at TF32
    one = FullNet(HeadSpec(TrainConfig(hidden=(4,)), (2, 5, 5), 3, (0, 1)))
    other = deepcopy(one).cuda()
    optimizer = StackedSGD(dict(other.named_parameters()), [0.1, 0.3], [1e-3, 0.0])
    replayed, reference = make_step(other, optimizer, torch.device("cuda")), live(one)
    assert isinstance(replayed, RecordedStep)
    for inputs, labels, factor in batches([8] * 8):
        found = replayed(inputs.cuda(), labels.cuda(), factor)
        torch.testing.assert_close(found.cpu(), reference(inputs, labels, factor), rtol=1e-4, atol=1e-5)
