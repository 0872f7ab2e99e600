"""Optimizers of a stack against torch's own, head by head, and against the update written out."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pipeline.training.optimizer import (
    BETAS,
    CLIP,
    EPSILON,
    MOMENTUM,
    Optimizer,
    StackedAdam,
    StackedSGD,
    make_optimizer,
)

LR, DECAY = [0.1, 0.03, 0.1], [0.5, 0.0, 0.2]
FACTORS = [0.5, 1.0, 0.7, 0.1]


def parameters(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    draw = torch.Generator().manual_seed(0)
    shapes = {"weight": (3, 4, 2), "bias": (3, 2), "deep": (3, 2, 2, 2)}
    return {n: nn.Parameter(torch.randn(s, generator=draw, dtype=dtype)) for n, s in shapes.items()}


def give_gradients(to: dict[str, nn.Parameter], step: int) -> None:
    """Some too long, some not."""
    draw = torch.Generator().manual_seed(step)
    for p in to.values():
        size = torch.tensor([0.02, 1.0, 3.0]).view(-1, *[1] * (p.ndim - 1))
        p.grad = torch.randn(p.shape, generator=draw, dtype=torch.float64).mul(size).to(p.dtype)


def alone(
    kind: str, m: int, of: dict[str, nn.Parameter]
) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    """Head m under torch's optimizer, not fused."""
    mine = {name: nn.Parameter(p[m : m + 1].detach().clone()) for name, p in of.items()}
    groups = [
        {"params": [p for p in mine.values() if p.ndim > 2], "weight_decay": DECAY[m]},
        {"params": [p for p in mine.values() if p.ndim == 2], "weight_decay": 0.0},
    ]
    if kind == "adam":
        return mine, torch.optim.AdamW(groups, lr=LR[m], betas=BETAS, eps=EPSILON, foreach=False)
    return mine, torch.optim.SGD(groups, lr=LR[m], momentum=MOMENTUM, nesterov=True)


@pytest.mark.parametrize("as_factor", [float, torch.tensor], ids=["number", "tensor"])
@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_each_head_moves_as_torch_would_move_it_alone(
    kind: str, as_factor: Callable[[float], float | Tensor]
) -> None:
    stack = parameters()
    singles = [alone(kind, m, stack) for m in range(3)]
    subject = make_optimizer(kind, stack, LR, DECAY)
    for step, factor in enumerate(FACTORS):
        give_gradients(stack, step)
        for m, (mine, optimizer) in enumerate(singles):
            for name, p in mine.items():
                grad = stack[name].grad
                assert grad is not None
                p.grad = grad[m : m + 1].clone()
            nn.utils.clip_grad_norm_(mine.values(), CLIP)
            for group in optimizer.param_groups:
                group["lr"] = LR[m] * factor
            optimizer.step()
        subject.step(as_factor(factor))
        for m, (mine, _) in enumerate(singles):
            for name, p in mine.items():
                torch.testing.assert_close(stack[name][m : m + 1], p, rtol=0, atol=1e-6)
    assert all(p.grad is None for p in stack.values())


def test_adam_is_the_update_of_its_paper_with_decay_apart() -> None:
    weight = nn.Parameter(torch.tensor([[[2.0]]], dtype=torch.float64))
    subject = StackedAdam({"weight": weight}, [0.1], [0.3])
    expected, mean, square = 2.0, 0.0, 0.0
    for t in range(1, 5):
        gradient = 0.1 * t
        weight.grad = torch.full_like(weight, gradient)
        subject.step(0.5)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        expected -= 0.05 * 0.3 * expected
        expected -= 0.05 * mean / (1 - 0.9**t) / (math.sqrt(square / (1 - 0.999**t)) + 1e-8)
        assert weight.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_what_is_saved_is_all_it_takes_to_go_on(kind: str) -> None:
    def run(steps: range, stack: dict[str, nn.Parameter], optimizer: Optimizer) -> None:
        for step in steps:
            give_gradients(stack, step)
            optimizer.step(FACTORS[step])

    whole, first, second = parameters(), parameters(), parameters()
    run(range(4), whole, make_optimizer(kind, whole, LR, DECAY))
    before, after = (make_optimizer(kind, p, LR, DECAY) for p in (first, second))
    run(range(2), first, before)
    with torch.no_grad():
        for name, p in first.items():
            second[name].copy_(p)
        for group, tensors in before.state().items():
            for name, tensor in tensors.items():
                after.state()[group][name].copy_(tensor)
    run(range(2, 4), second, after)
    for name, p in whole.items():
        assert torch.equal(p, second[name])


def test_kinds() -> None:
    assert isinstance(make_optimizer("sgd", parameters(), LR, DECAY), StackedSGD)
    assert isinstance(make_optimizer("adam", parameters(), LR, DECAY), StackedAdam)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_recorded_step_of_adam_counts_on() -> None:
    stack = {name: nn.Parameter(p.detach().cuda()) for name, p in parameters(torch.float32).items()}
    subject, factor = StackedAdam(stack, LR, DECAY), torch.ones((), device="cuda")
    still = {name: torch.ones_like(p) for name, p in stack.items()}
    for name, p in stack.items():
        p.grad = still[name].clone()
    subject.step(factor)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for name, p in stack.items():
            p.grad = still[name] * 1
        subject.step(factor)
    graph.replay()
    graph.replay()
    assert {float(c) for counts in subject.state()["count"].values() for c in counts} == {3.0}
