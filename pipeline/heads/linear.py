"""Global average pooling and one linear layer. It looks at the whole map; `--crops` doesn't matter."""

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
        return torch.baddbmm(
            self.bias[:, None], inputs.to(self.weight.dtype).expand(len(self.weight), -1, -1), self.weight
        )
