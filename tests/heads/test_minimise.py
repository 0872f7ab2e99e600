"""Minima on a path of penalties, against closed forms and a count of evaluations."""

import pytest
import torch
from torch import Tensor

from pipeline.heads import minimise
from pipeline.heads.minimise import Minimiser

SIZE = 20
STRENGTHS = (1.0, 0.3, 0.1, 0.03)


class Bowl:
    """½xᵀAx - bx of a badly conditioned A; how often it was asked for."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        turned, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=draw, dtype=torch.float64))
        self.matrix = turned @ torch.diag(torch.logspace(-2, 1, SIZE, dtype=torch.float64)) @ turned.T
        self.pull, self.asked = torch.randn(SIZE, generator=draw, dtype=torch.float64), 0

    def __call__(self, x: Tensor) -> tuple[float, Tensor]:
        self.asked += 1
        slope = self.matrix @ x
        return float(x @ slope / 2 - self.pull @ x), slope - self.pull

    def minimum(self, penalty: Tensor) -> Tensor:
        return torch.linalg.solve(self.matrix + torch.diag(penalty), self.pull)


def penalised() -> Tensor:
    """All but the last five."""
    return (torch.arange(SIZE) < SIZE - 5).double()


@pytest.mark.parametrize("pairs", [minimise.MOST_PAIRS, 5])
def test_a_path_goes_from_minimum_to_minimum(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimise, "MOST_PAIRS", pairs)
    bowl, point = Bowl(), torch.zeros(SIZE, dtype=torch.float64)
    minimiser = Minimiser(bowl, penalised(), 1e-9, 10_000)
    for strength in STRENGTHS:
        point = minimiser.minimise(point, strength)
        torch.testing.assert_close(point, bowl.minimum(strength * penalised()), rtol=1e-4, atol=1e-6)


def test_curvature_that_was_seen_under_another_penalty_saves_half_of_the_way() -> None:
    kept, anew = Bowl(), Bowl()
    minimiser = Minimiser(kept, penalised(), 1e-9, 10_000)
    one = other = torch.zeros(SIZE, dtype=torch.float64)
    for strength in STRENGTHS:
        one = minimiser.minimise(one, strength)
        other = Minimiser(anew, penalised(), 1e-9, 10_000).minimise(other, strength)
    assert kept.asked < anew.asked / 2


def test_a_loss_that_bends_the_other_way_is_minimised_too() -> None:
    """Between two wells, where a step downhill makes the slope steeper."""

    def wells(x: Tensor) -> tuple[float, Tensor]:
        return float((x**4 / 4 - x**2 / 2).sum()), x**3 - x

    minimiser = Minimiser(wells, torch.ones(2, dtype=torch.float64), 1e-8, 100)
    found = minimiser.minimise(torch.tensor([0.1, -0.2], dtype=torch.float64), 0.0)
    torch.testing.assert_close(found, torch.tensor([1.0, -1.0]).double(), rtol=0, atol=1e-6)


def test_a_loss_that_is_no_number_ends_it() -> None:
    begun = torch.ones(2)
    broken = Minimiser(lambda x: (float("nan"), x * float("nan")), torch.ones(2), 1e-6, 100)
    assert broken.minimise(begun, 0.1) is begun
