"""Nearest neighbours: the training maps most similar to an image's vote for its classes.

An instant baseline. Maps are averaged over their cells; similarity is the cosine; a vote weighs
exp(cosine/0.07). How many neighbours vote is chosen on the validation part. A class's share is the weight of
the neighbours that have it, divided by the weight of all whose label for it is counted. One more vote is
spread over all outcomes, so that none is impossible. The softmax or the sigmoid of the scores gives the
shares.

Shapes: M numbers of neighbours, B images, N training maps, C channels, K classes, k neighbours.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.heads.base import Examples, FittedHead, HeadSpec
from pipeline.heads.plain import Plain

COUNTS = (1, 3, 5, 10, 20, 50, 100, 200)
UNVALIDATED = 20
"""How many neighbours vote without a validation part."""
TEMPERATURE = 0.07
CELLS = 1 << 24  # similarities, or labels of neighbours, held at once


class NearestNeighbours(FittedHead):
    """(B, V, C, H, W) → mean over the cells (B, C) → (M, B, K)."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        self.classes = spec.classes
        bank = torch.zeros(1, spec.examples, spec.map_shape[0])
        one, several = (torch.int64, ()), (torch.int8, (spec.classes,))
        dtype, shape = several if spec.multi_label else one
        self.bank = nn.Parameter(bank, requires_grad=False)
        self.register_buffer("bank_labels", torch.zeros(1, spec.examples, *shape, dtype=dtype))
        self.register_buffer("neighbours", torch.ones(1, dtype=torch.int64))
        self.bank_labels: Tensor
        self.neighbours: Tensor

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        return maps_BVCHW[:, 0].mean((2, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        counts = self.neighbours.tolist()
        rows = max(1, CELLS // max(len(self.bank[0]), max(counts) * self.classes))
        return torch.cat([self._scores(chunk, counts) for chunk in inputs.split(rows)], dim=1)

    def plain(self) -> nn.Module:
        counts = self.neighbours.tolist()  # as numbers: a graph can't depend on what a tensor holds
        return Plain(self, lambda maps: self._scores(self.prepare(maps), counts))

    @torch.no_grad()
    def fit(self, train: Examples, choose: bool) -> list[dict[str, Any]]:
        self.bank.data = F.normalize(train.inputs.to(self.bank.dtype), dim=1)[None]
        self.bank_labels = train.labels[None]
        known = len(train.labels)
        counts = [k for k in COUNTS if k <= known] if choose else [min(UNVALIDATED, known)]
        self.neighbours = self.neighbours.new_tensor(counts)
        return [{"neighbours": k} for k in counts]

    def _scores(self, inputs_BC: Tensor, counts: list[int]) -> Tensor:
        """Scores (M, B, K), for each count by the votes of as many of the most similar training maps."""
        queries = F.normalize(inputs_BC.to(self.bank.dtype), dim=1)
        cosines, indices = torch.topk(queries @ self.bank[0].t(), max(counts))
        weights, labels = (cosines / TEMPERATURE).exp(), self.bank_labels[0][indices]
        return torch.stack([self._votes(weights[:, :k], labels[:, :k]) for k in counts])

    def _votes(self, weights_Bk: Tensor, labels: Tensor) -> Tensor:
        """Scores (B, K) by the votes of neighbours with the labels (B, k) or (B, k, K)."""
        if labels.ndim == 2:
            present = weights_Bk.new_zeros(labels.shape[0], self.classes).scatter_add_(1, labels, weights_Bk)
            counted, voters = weights_Bk.sum(1, keepdim=True), labels.shape[1]
        else:
            is_counted = labels >= 0
            present, counted = (
                torch.einsum("bk,bkc->bc", weights_Bk, which.to(weights_Bk.dtype))
                for which in (labels == 1, is_counted)
            )
            voters = is_counted.sum(1)
        shares = present / counted.clamp(min=torch.finfo(counted.dtype).tiny)  # of no votes at all: 0
        outcomes = 2 if self.loss == "bce" else self.classes
        shares = (voters * shares + 1 / outcomes) / (voters + 1)
        return shares.logit() if self.loss == "bce" else shares.log()
