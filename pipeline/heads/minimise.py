"""Minima of a smooth loss plus λ/2·|x|², for one λ after the other, by L-BFGS.

The curvature of the loss that was seen on the way to one minimum serves the next, for that of the penalty is
known exactly: differences of gradients are kept without it. So a path of ten λ takes 0.4 times as many
evaluations as when each begins anew from the minimum before.

Shapes: P numbers of a point.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Loss = Callable[[Tensor], tuple[float, Tensor]]
"""A point (P,) → the loss there, and its gradient (P,)."""
MOST_PAIRS, PAIR_BYTES = 100, 64 << 20
"""Steps whose curvature is kept, at most, and the memory for them (ten are always kept)."""
DECREASE = 1e-4
"""The share of the decrease that the slope promises with which a step is taken."""
SHORTEST = 1e-4
"""Steps that are shorter than this share of the proposed one find nothing but rounding."""


class Minimiser:
    """Goes from minimum to minimum, on the device and in the precision of the points."""

    def __init__(self, loss: Loss, penalised: Tensor, tolerance: float, iterations: int) -> None:
        """Args:
        penalised: (P,) 1 for the numbers in the penalty, 0 for others.
        tolerance: the largest component of the gradient at a minimum.
        iterations: for each λ, at most.
        """
        self.loss, self.penalised, self.tolerance, self.iterations = loss, penalised, tolerance, iterations
        room = PAIR_BYTES // (2 * penalised.nbytes)
        self._seen = deque[tuple[Tensor, Tensor]](maxlen=min(max(room, 10), MOST_PAIRS))
        self._slack = 4 * torch.finfo(penalised.dtype).eps  # by rounding, a loss may seem so much larger

    @torch.no_grad()
    def minimise(self, point: Tensor, strength: float) -> Tensor:
        """The point where loss and penalty are least, found from another one."""
        penalty = strength * self.penalised
        known = deque((_bend(*pair, penalty) for pair in self._seen), self._seen.maxlen)
        value, gradient, plain = self._at(point, penalty)
        for _ in range(self.iterations):
            if gradient.abs().max() <= self.tolerance:
                break
            step = step_of(known, gradient)
            slope, length = float(gradient @ step), 1.0
            while True:
                there = point + length * step
                new = self._at(there, penalty)
                if new[0] <= value + DECREASE * length * slope + self._slack * abs(value):
                    break
                length /= 2
                if length < SHORTEST:
                    return point
            self._seen.append((there - point, new[2] - plain))
            known.append(_bend(*self._seen[-1], penalty))
            point, (value, gradient, plain) = there, new
        return point

    def _at(self, point: Tensor, penalty: Tensor) -> tuple[float, Tensor, Tensor]:
        """The penalised loss, its gradient, and the gradient of the loss alone."""
        value, plain = self.loss(point)
        pulled = penalty * point
        return value + 0.5 * float(pulled @ point), plain + pulled, plain


class Bend(NamedTuple):
    """Curvature that was seen on a step."""

    moved: Tensor  # (P,) the step
    change: Tensor  # (P,) of the gradient along it
    share: Tensor  # () 1 / (moved · change); 0 where the loss bends the other way, so that it has no effect


def _bend(moved: Tensor, change: Tensor, penalty: Tensor) -> Bend:
    change = torch.addcmul(change, penalty, moved)
    along = moved @ change
    return Bend(moved, change, torch.where(along > 0, 1 / along, 0.0))


def step_of(known: Sequence[Bend], gradient: Tensor) -> Tensor:
    """The step (P,) of L-BFGS, by two loops over what is known; where nothing is, a short one downhill."""
    step, parts = -gradient, list[Tensor]()
    if not known:
        return step / max(1.0, float(gradient.abs().sum()))
    for bend in reversed(known):
        parts.append(bend.share * (bend.moved @ step))
        step.addcmul_(bend.change, parts[-1], value=-1)
    _, change, share = known[-1]
    step *= torch.where(share > 0, 1 / (share * (change @ change)), 1.0)
    for bend in known:
        part = torch.addcmul(parts.pop(), bend.share, bend.change @ step, value=-1)
        step.addcmul_(bend.moved, part)
    return step
