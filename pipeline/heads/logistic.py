"""Logistic regression on maps averaged over their cells, all of them at once: an instant baseline.

The mean loss plus λ/2·|W|² is minimised to the end for a few λ, from the strongest to the weakest; validation
chooses between them. The loss is that of trained heads: cross-entropy, or where images have several labels
the binary one of each class, so that classes are learned one against the rest.

Shapes: M strengths λ, N training maps, C channels, K classes.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.heads.base import Examples, FittedHead
from pipeline.heads.linear import Linear
from pipeline.heads.losses import classification_loss
from pipeline.heads.minimise import Minimiser
from pipeline.progress import Progress

STRENGTHS = (3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)
"""Closer to each other where few images need them, and where solving takes no time."""
UNVALIDATED = 1e-4
"""The λ where there is no validation part to choose by."""
CERTAIN = 30.0
"""The score of a class that all images have, negative where none has: probabilities are 1e-13 from 1 or 0."""
ITERATIONS = 200  # for each λ, at most
ROWS = 8192  # maps whose scores are held at once


class Logistic(Linear, FittedHead):
    """The linear head, computed instead of trained."""

    def fit(self, train: Examples, choose: bool) -> list[dict[str, Any]]:
        strengths = STRENGTHS if choose else (UNVALIDATED,)
        solutions: list[Tensor] = []
        with Progress("solving", len(strengths), "strengths") as progress:
            for solution in self.path(train, strengths):
                solutions.append(solution)
                progress.advance()
        found_MKC = torch.stack(solutions)
        self.weight = nn.Parameter(found_MKC[..., :-1].transpose(1, 2).contiguous())
        self.bias = nn.Parameter(found_MKC[..., -1].contiguous())
        return [{"l2": strength} for strength in strengths]

    def path(self, train: Examples, strengths: Sequence[float]) -> Iterator[Tensor]:
        """Weights and, behind them, biases (K, C + 1) at the minimum for each strength."""
        classes, channels = self.bias.shape[1], self.weight.shape[1]
        # With these the loss has no minimum, only a slope that flattens out, on which steps lose their way.
        known, scores = one_sided(train.labels, classes, self.loss)
        scores = scores.to(self.bias)

        def loss(point: Tensor) -> tuple[float, Tensor]:
            total, found = 0.0, point.view(classes, channels + 1)
            gradient = torch.zeros_like(found)
            for inputs, labels in zip(*(part.split(ROWS) for part in train), strict=True):
                inputs = inputs.to(point.dtype)
                # Images stand side by side: products with a few columns of classes take many times as long.
                logits_KN = F.linear(inputs, found[:, :-1], found[:, -1]).T.contiguous()
                logits_KN[known] = scores[:, None]
                logits_KN.requires_grad_()
                with torch.enable_grad():
                    losses = classification_loss(logits_KN.T[None], labels, self.loss)
                    part = losses.sum() / len(train.labels)
                (error_KN,) = torch.autograd.grad(part, logits_KN)
                error_KN[known] = 0
                gradient[:, :-1].addmm_(error_KN, inputs)
                gradient[:, -1] += error_KN.sum(1)
                total += part.item()
            return total, gradient.view(-1)

        penalised = self.weight.new_ones(classes, channels + 1)
        penalised[:, -1] = 0
        minimiser = Minimiser(loss, penalised.view(-1), self.tolerance, ITERATIONS)
        points = [torch.zeros_like(penalised.view(-1))] * 2
        for at, strength in enumerate(strengths):
            ahead = 0.0
            if at > 1:  # solutions lie on a curve in log λ, and the next one about where it leads
                before, last = (math.log(b / a) for a, b in itertools.pairwise(strengths[at - 2 : at + 1]))
                ahead = last / before
            begin = points[1] + ahead * (points[1] - points[0])
            points = [points[1], minimiser.minimise(begin, strength)]
            solution = points[1].view_as(penalised).clone()
            solution[known, -1] = scores
            yield solution

    @property
    def tolerance(self) -> float:
        """The largest component of the gradient at a solution."""
        # In float32, 3e-5 gives the validation scores of 1e-6 in half the time.
        return 1e-9 if self.weight.dtype == torch.float64 else 3e-5


def one_sided(labels: Tensor, classes: int, kind: str) -> tuple[Tensor, Tensor]:
    """The classes that no image has, or all have where they count, and the scores to give them.

    Cross-entropy: those that no image has. The others' scores are zero on average, so one is well above.
    """
    if labels.ndim == 1:
        counts = labels.bincount(minlength=classes)
        has, lacks = counts > 0, counts < len(labels)
    else:
        has, lacks = (labels == 1).any(0), (labels == 0).any(0)
    alike = {"cross-entropy": ~has, "bce": has != lacks}.get(kind, torch.zeros_like(has)).nonzero()[:, 0]
    return alike, torch.where(has[alike], CERTAIN, -CERTAIN)
