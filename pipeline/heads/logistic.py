"""Logistic regression on maps averaged over their cells, all of them at once, by L-BFGS: an instant baseline.

The mean loss plus λ/2·|W|² is minimised to the end for a few λ, from the strongest to the weakest, each from
the solution before; the best on the validation part stays. The loss is that of trained heads: cross-entropy,
or where images have several labels the binary one of each class, so that classes are learned one against
the rest. Scikit-learn's C is 1/(λ·N).

Shapes: M strengths λ, N training maps, C channels, K classes.
"""

from typing import Any

import torch
from torch import nn

from pipeline.heads.base import Examples, FittedHead
from pipeline.heads.linear import Linear

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
UNVALIDATED = 1e-4
"""The λ where there is no validation part to choose by."""
ITERATIONS = 200  # for each λ, at most
ROWS = 8192  # maps whose scores are held at once


class Logistic(Linear, FittedHead):
    """As `Linear`, computed instead of trained."""

    def fit(self, train: Examples, choose: bool) -> list[dict[str, Any]]:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        strengths, solutions = STRENGTHS if choose else (UNVALIDATED,), []
        for strength in strengths:
            self._minimise(train, strength)
            solutions.append((self.weight.detach().clone(), self.bias.detach().clone()))
        self.weight, self.bias = (nn.Parameter(torch.cat(part)) for part in zip(*solutions, strict=True))
        return [{"l2": strength} for strength in strengths]

    def _minimise(self, train: Examples, strength: float) -> None:
        """L-BFGS from the present weights."""
        tight = 1e-9 if self.weight.dtype == torch.float64 else 1e-6
        optimizer = torch.optim.LBFGS(
            [self.weight, self.bias],
            max_iter=ITERATIONS,
            history_size=20,
            tolerance_grad=tight,
            tolerance_change=tight * 1e-3,
            line_search_fn="strong_wolfe",
        )

        @torch.enable_grad()
        def loss() -> float:
            optimizer.zero_grad()
            total = 0.5 * strength * self.weight.square().sum()
            total.backward()
            for inputs, labels in zip(*(part.split(ROWS) for part in train), strict=True):
                part = self.losses(inputs, labels).sum() * (len(inputs) / len(train.labels))
                part.backward()
                total = total.detach() + part.detach()
            return float(total)

        optimizer.step(loss)
        optimizer.zero_grad()
