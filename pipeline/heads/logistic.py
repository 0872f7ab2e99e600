"""Logistic regression on maps averaged over their cells, all images at once, by L-BFGS: an instant baseline.

The mean cross-entropy plus λ/2·|W|² is minimised to the end for a few λ, from the strongest to the weakest,
each from the solution before; the best on the validation part stays. Scikit-learn's C is 1/(λ·N).

Shapes: N images, C channels, K classes.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.heads.base import Examples, FittedHead, best_of, scores
from pipeline.heads.linear import Linear

STRENGTHS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
UNVALIDATED = 1e-4
"""The λ where there is no validation part to choose by."""
ITERATIONS = 200  # for each λ, at most


class Logistic(Linear, FittedHead):
    """As `Linear`, computed instead of trained."""

    @torch.no_grad()
    def fit(self, train: Examples, val: Examples | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        inputs, targets = train.inputs.to(self.weight.dtype), F.one_hot(train.labels, self.bias.shape[1])
        targets = targets.to(inputs.dtype)
        self.weight.zero_()
        self.bias.zero_()
        solutions, lines = [], []
        for strength in STRENGTHS if val else (UNVALIDATED,):
            self._minimise(inputs, targets, strength)
            solutions.append((self.weight.clone(), self.bias.clone()))
            lines.append({"l2": strength, **(scores(self(val.inputs)[0], val) if val else {})})
        chosen = best_of(lines) if val else 0
        self.weight.copy_(solutions[chosen][0])
        self.bias.copy_(solutions[chosen][1])
        return lines[chosen], lines

    def _minimise(self, inputs_NC: Tensor, targets_NK: Tensor, strength: float) -> None:
        """L-BFGS from the present weights."""
        weight, bias = self.weight[0], self.bias[0]
        tight = 1e-9 if weight.dtype == torch.float64 else 1e-6
        optimizer = torch.optim.LBFGS(
            [self.weight, self.bias],
            max_iter=ITERATIONS,
            history_size=20,
            tolerance_grad=tight,
            tolerance_change=tight * 1e-3,
            line_search_fn="strong_wolfe",
        )

        @torch.no_grad()
        def loss() -> float:
            log_shares = torch.addmm(bias, inputs_NC, weight).log_softmax(1)
            error = (log_shares.exp() - targets_NK).div_(len(inputs_NC))
            self.weight.grad = torch.addmm(weight, inputs_NC.t(), error, beta=strength)[None]
            self.bias.grad = error.sum(0)[None]
            penalty = 0.5 * strength * (weight * weight).sum()
            return float(penalty - (log_shares * targets_NK).sum() / len(inputs_NC))

        optimizer.step(loss)
        self.weight.grad = self.bias.grad = None
