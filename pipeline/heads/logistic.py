"""Logistic regression on maps averaged over their cells, all of them at once: an instant baseline.

The mean loss plus λ/2·|W|² is minimised to the end for a few λ, from the strongest to the weakest, each from
the solution before; validation chooses between them. The loss is that of trained heads: cross-entropy, or
where images have several labels the binary one of each class, so that classes are learned one against the
rest.

On a CPU, cross-entropy is minimised by scikit-learn, four times as fast as by torch's L-BFGS, which does the
rest: GPUs, other losses, labels that are not counted.

Shapes: M strengths λ, N training maps, C channels, K classes.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.heads.base import Examples, FittedHead
from pipeline.heads.linear import Linear
from pipeline.progress import Progress

STRENGTHS = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
"""Closer to each other where few images need them, and where solving takes no time."""
UNVALIDATED = 1e-4
"""The λ where there is no validation part to choose by."""
ITERATIONS = 200  # for each λ, at most
ROWS = 8192  # maps whose scores are held at once

Solution = tuple[Tensor, Tensor]
"""A weight (1, C, K) and a bias (1, K)."""


class Logistic(Linear, FittedHead):
    """The linear head, computed instead of trained."""

    def fit(self, train: Examples, choose: bool) -> list[dict[str, Any]]:
        strengths = STRENGTHS if choose else (UNVALIDATED,)
        on_cpu = self.weight.device.type == "cpu" and self.loss == "cross-entropy"
        every_class = len(train.labels.unique()) == self.bias.shape[1] > 1  # scikit-learn asks for it
        solve = self.by_scikit_learn if on_cpu and every_class else self.by_torch
        solutions: list[Solution] = []
        with Progress("solving", len(strengths), "strengths") as progress:
            for solution in solve(train, strengths):
                solutions.append(solution)
                progress.advance()
        weights, biases = zip(*solutions, strict=True)
        self.weight, self.bias = nn.Parameter(torch.cat(weights)), nn.Parameter(torch.cat(biases))
        return [{"l2": strength} for strength in strengths]

    def by_scikit_learn(self, train: Examples, strengths: Sequence[float]) -> Iterator[Solution]:
        """Minimise in the precision of the weights. For two classes scikit-learn learns one difference w of
        scores, which stands for weights of -w/2 and w/2; their square is half of its own, so λ is too.
        """
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        inputs, labels = train.inputs.to(self.weight.dtype).numpy(), train.labels.numpy()
        binary = self.bias.shape[1] == 2
        # In float32, 3e-5 gives the validation scores of 1e-6 in less than half the time.
        tolerance = self.tolerance if self.weight.dtype == torch.float64 else 3e-5
        model = LogisticRegression(tol=tolerance, max_iter=ITERATIONS, warm_start=True)
        for strength in strengths:
            model.C = (2 if binary else 1) / (strength * len(labels))
            # On products with a few columns OpenBLAS's threads wait for each other longer than they compute.
            with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(inputs, labels)
            found = [model.coef_.T, model.intercept_]
            if binary:
                found = [np.concatenate([-part, part], -1) / 2 for part in found]
            weight, bias = (torch.from_numpy(part.copy()).to(self.weight.dtype)[None] for part in found)
            yield weight, bias

    def by_torch(self, train: Examples, strengths: Sequence[float]) -> Iterator[Solution]:
        """Minimise by L-BFGS on the device of the head, which ends with the last solution."""
        self.weight, self.bias = (nn.Parameter(torch.zeros_like(p[:1])) for p in (self.weight, self.bias))
        for strength in strengths:
            self._minimise(train, strength)
            yield self.weight.detach().clone(), self.bias.detach().clone()

    @property
    def tolerance(self) -> float:
        """The largest component of the gradient at a solution."""
        return 1e-9 if self.weight.dtype == torch.float64 else 1e-6

    def _minimise(self, train: Examples, strength: float) -> None:
        """L-BFGS from the present weights."""
        optimizer = torch.optim.LBFGS(
            [self.weight, self.bias],
            max_iter=ITERATIONS,
            history_size=20,
            tolerance_grad=self.tolerance,
            tolerance_change=self.tolerance * 1e-3,
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
