"""One linear layer on pooled channels: of the whole map (linear), or of crops of it (gap, gmp).

gap and gmp pool each crop to a number per channel, the mean or the maximum of its cells, and average the
crops' scores. The layer is linear, so it is applied once, to the mean of the crops' pooled channels, which
has no parameters and is prepared once for all epochs. The order of cells doesn't matter, so a mirrored crop
pools to the same as the crop itself.
"""

from collections import Counter
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
        crops = spec.crops()
        self.views = 1 + max(crop.view for crop in crops)
        self.windows = Counter((crop.view, crop.box) for crop in crops)
        times = torch.zeros(
            self.views, 1, *spec.map_shape[1:]
        )  # that each cell is in a crop; all are of one size
        for (view, (top, left, height, width)), count in self.windows.items():
            times[view, :, top : top + height, left : left + width] += count
        self.cells = int(times.sum())
        self.register_buffer("times", times, persistent=False)
        self.times: Tensor

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        return (maps_BVCHW[:, : self.views] * self.times).sum((1, 3, 4)) / self.cells


class MaximumPooling(AveragePooling):
    """(B, V, C, H, W) → mean over the crops of each crop's maximum (B, C) → (M, B, K)."""

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        # Channels last: a processor compares many at once, where a crop's rows have a few cells each.
        maps = maps_BVCHW[:, : self.views].permute(0, 1, 3, 4, 2).contiguous()
        pooled = [
            count * maps[:, view, top : top + height, left : left + width].flatten(1, 2).amax(1)
            for (view, (top, left, height, width)), count in self.windows.items()
        ]
        return reduce(torch.add, pooled) / self.windows.total()  # in this order whatever the batch
