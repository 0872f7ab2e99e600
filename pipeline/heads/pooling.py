"""Crops pooled to a number per channel, the mean (gap) or the maximum (gmp) of the cells, and a linear layer.

Each crop is scored, and the scores are averaged. The layer is linear, so it is applied once, to the mean of
the crops' pooled channels, which has no parameters and is prepared once for all epochs. The order of cells
doesn't matter, so mirrored crops pool to what the crops themselves do.
"""

import torch
from torch import Tensor

from pipeline.heads.base import HeadSpec
from pipeline.heads.linear import Linear


class Pooling(Linear):
    """(B, V, C, H, W) → mean over the crops of what `pool` makes of them (B, C) → (M, B, K)."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        self.crops = spec.crops()
        self.views = 1 + max(crop.view for crop in self.crops)

    def pool(self, cells_BCj: Tensor) -> Tensor:
        """(B, C) of the cells of a crop."""
        raise NotImplementedError

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        pooled = []
        for (top, left, height, width), _, view in self.crops:
            crop = maps_BVCHW[:, view, :, top : top + height, left : left + width]
            pooled.append(self.pool(crop.flatten(2)))
        return torch.stack(pooled).mean(0)


class AveragePooling(Pooling):
    def pool(self, cells_BCj: Tensor) -> Tensor:
        return cells_BCj.mean(2)


class MaximumPooling(Pooling):
    def pool(self, cells_BCj: Tensor) -> Tensor:
        return cells_BCj.amax(2)
