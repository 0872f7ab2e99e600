"""Class-specific residual attention (Zhu and Wu, ICCV 2021): each class looks where its own score is high.

With a unit vector m_i per class, cell j of the map scores s_ij = m_i·x_j, and

    logit_i = mean_j s_ij + λ Σ_j softmax_j(T·s_ij)·s_ij

T = 99 stands for the maximum over the cells. Several T are as many heads with vectors of their own, whose
logits are summed. Maps come centred, so, unlike in the paper, a bias stands for the frequency of a class.

Cells are scored once for all crops of a map; crops are windows of these scores, and their logits are
averaged. The order of cells makes no difference: a mirrored crop counts as another one of its box.

Shapes: M heads, P temperatures, B images, V views, C×H×W cells of a map, K classes.
"""

from collections import Counter

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.heads.base import Head, HeadSpec

MAXIMUM = 99.0
"""The temperature that stands for the maximum."""


class ResidualAttention(Head):
    """(B, V, C, H, W) → (B, V, H, W, C), channels last → (M, B, K)."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        settings, channels, crops = spec.settings, spec.map_shape[0], spec.crops()
        self.views = 1 + max(crop.view for crop in crops)
        self.windows = Counter((crop.view, crop.box) for crop in crops)
        self.share, self.temperatures = settings.csra_lambda, settings.csra_temperature
        shape = (len(self.temperatures), channels, spec.classes)
        self.weight = self.new_weight(*shape, std=channels**-0.5)
        self.bias = self.new_bias(spec.classes)

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        return maps_BVCHW[:, : self.views].permute(0, 1, 3, 4, 2).contiguous()

    def forward(self, inputs: Tensor) -> Tensor:
        heads, parts = len(self.seeds), len(self.temperatures)
        rows = F.normalize(self.weight, dim=2).transpose(2, 3).flatten(0, 2).contiguous()
        # (M·P·K, C), row by row: a CPU takes three times as long for both products of the transpose.
        scores = F.linear(inputs, rows.to(inputs.dtype)).to(self.weight.dtype)
        scores = scores.unflatten(-1, (heads, parts, -1))
        total = torch.zeros((), dtype=scores.dtype, device=scores.device)
        for (view, (top, left, height, width)), count in self.windows.items():
            window = scores[:, view, top : top + height, left : left + width].flatten(1, 2)
            total = total + count * self._pool(window)
        return (total / self.windows.total()).transpose(0, 1) + self.bias[:, None]

    def _pool(self, cells: Tensor) -> Tensor:
        """Scores (B, cells, M, P, K) → logits (B, M, K)."""
        total = cells.mean(1).sum(2)
        for p, temperature in enumerate(self.temperatures):
            mine = cells[:, :, :, p]
            highest = temperature == MAXIMUM
            found = mine.amax(1) if highest else ((temperature * mine).softmax(1) * mine).sum(1)
            total = total + self.share * found
        return total
