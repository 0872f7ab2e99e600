"""One linear layer on pooled channels: of the whole map (linear), or of crops of it (gap, gmp).

gap and gmp pool each crop to a number per channel, the mean or the maximum of its cells, and average the
crops' scores. The layer is linear, so it is applied once, to the mean of the crops' pooled channels, which
has no parameters and is prepared once for all epochs. The order of cells doesn't matter, so a mirrored crop
pools to the same as the crop itself.
"""

from functools import reduce

import torch
from torch import Tensor

from pipeline.heads.base import Head, HeadSpec


class Linear(Head):
    """(B, V, C, H, W) → mean over the cells (B, C) → (M, B, K)."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        channels = spec.map_shape[0]
        self.weight = self.new_weight(channels, spec.classes, std=channels**-0.5)
        self.bias = self.new_bias(spec.classes)

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        return maps_BVCHW[:, 0].mean((2, 3))

    def forward(self, inputs: Tensor) -> Tensor:
        inputs = inputs.to(self.weight.dtype).expand(len(self.weight), -1, -1)
        return torch.baddbmm(self.bias[:, None], inputs, self.weight)


class AveragePooling(Linear):
    """(B, V, C, H, W) → mean over the crops of each crop's mean (B, C) → (M, B, K)."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        self.crops = spec.crops()
        self.views = 1 + max(crop.view for crop in self.crops)

    def pool(self, crop_BChw: Tensor) -> Tensor:
        """(B, C) of the cells of a crop."""
        return crop_BChw.mean((2, 3))

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        pooled = []
        for (top, left, height, width), _, view in self.crops:
            pooled.append(self.pool(maps_BVCHW[:, view, :, top : top + height, left : left + width]))
        return reduce(torch.add, pooled) / len(pooled)  # in this order whatever the batch, unlike mean


class MaximumPooling(AveragePooling):
    """(B, V, C, H, W) → mean over the crops of each crop's maximum (B, C) → (M, B, K)."""

    def pool(self, crop_BChw: Tensor) -> Tensor:
        return crop_BChw.flatten(2).amax(2)  # a third faster than over both
