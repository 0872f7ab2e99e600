"""Nearest neighbours: the training images most similar to an image vote for their classes.

An instant baseline. Maps are averaged over their cells; similarity is the cosine; a vote weighs
exp(cosine/T). How many neighbours vote is chosen on the validation part. Scores are logarithms of the shares
of the votes, with one vote spread over all classes so that none is infinite.

Shapes: B images, N training images, C channels, K classes, k neighbours.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.heads.base import Examples, FittedHead, HeadSpec, best_of, scores

COUNTS = (1, 3, 5, 10, 20, 50, 100, 200)
UNVALIDATED = 20
"""Neighbours where there is no validation part to choose by."""
TEMPERATURE = 0.07
CELLS = 1 << 24  # similarities held at once


class NearestNeighbours(FittedHead):
    """(B, V, C, H, W) → mean over the cells (B, C) → (1, B, K)."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        self.classes = spec.classes
        bank = torch.zeros(1, spec.examples, spec.map_shape[0])
        self.bank = nn.Parameter(bank, requires_grad=False)
        self.register_buffer("bank_labels", torch.zeros(1, spec.examples, dtype=torch.int64))
        self.register_buffer("neighbours", torch.ones(1, dtype=torch.int64))
        self.bank_labels: Tensor
        self.neighbours: Tensor

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        return maps_BVCHW[:, 0].mean((2, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        k = int(self.neighbours)
        return self._votes(*self._nearest(inputs, k), k)[None]

    def fit(self, train: Examples, val: Examples | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        self.bank[0] = F.normalize(train.inputs.to(self.bank.dtype), dim=1)
        self.bank_labels[0] = train.labels
        counts = [k for k in COUNTS if k <= len(train.labels)]
        if val is None:
            lines = [{"neighbours": min(UNVALIDATED, len(train.labels))}]
            chosen = lines[0]
        else:
            nearest = self._nearest(val.inputs, counts[-1])
            lines = [{"neighbours": k, **scores(self._votes(*nearest, k), val)} for k in counts]
            chosen = lines[best_of(lines)]
        self.neighbours.fill_(chosen["neighbours"])
        return chosen, lines

    def _nearest(self, inputs: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """(B, k) cosines and (B, k) labels of the k most similar training images, most similar first."""
        bank, rows = self.bank[0], max(1, CELLS // len(self.bank[0]))
        found = [
            torch.topk(F.normalize(chunk.to(bank.dtype), dim=1) @ bank.t(), k) for chunk in inputs.split(rows)
        ]
        cosines, indices = (torch.cat(part) for part in zip(*found, strict=True))
        return cosines, self.bank_labels[0][indices]

    def _votes(self, cosines_Bk: Tensor, labels_Bk: Tensor, k: int) -> Tensor:
        """(B, K) log shares of the first k neighbours' votes."""
        weights = (cosines_Bk[:, :k] / TEMPERATURE).exp()
        votes = weights.new_zeros(len(weights), self.classes).scatter_add_(1, labels_Bk[:, :k], weights)
        shares = votes / weights.sum(1, keepdim=True)
        return ((k * shares + 1 / self.classes) / (k + 1)).log()
