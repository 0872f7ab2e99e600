"""Maps with zero mean and unit deviation, channel by channel, so that one learning rate suits every trunk.

One mean and one deviation serve all cells of a channel, so normalising commutes with cropping and mirroring.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

DEAD = 1e-2  # channels whose deviation is below this share of the typical one are not blown up further


class Normaliser(nn.Module):
    """(…, C, H, W) maps → the same, normalised. Holds `mean` and `scale` (C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("scale", torch.ones(channels, 1, 1))
        self.mean: Tensor
        self.scale: Tensor

    def fit(self, maps: Iterable[Tensor]) -> None:
        """Learn from chunks (…, C, H, W) of a sample of maps; moments are summed up in float64."""
        channels = len(self.mean)
        count, moments = 0, torch.zeros(2, channels, dtype=torch.float64)
        for chunk in maps:
            cells = chunk.movedim(-3, 0).reshape(channels, -1).double()
            moments += torch.stack([cells.sum(1), (cells * cells).sum(1)])
            count += cells.shape[1]
        mean, square = moments / count
        deviation = (square - mean * mean).clamp_min(0).sqrt()
        deviation = deviation.clamp_min(DEAD * deviation.mean())
        self.mean.copy_(mean.view_as(self.mean))
        self.scale.copy_(torch.where(deviation > 0, 1 / deviation, 1.0).view_as(self.scale))

    def is_finite(self) -> bool:
        """Whether all that it learned from was finite."""
        return bool((self.mean.isfinite() & self.scale.isfinite()).all())

    def forward(self, maps: Tensor) -> Tensor:
        """As `normalised`, by what was learned."""
        return normalised(maps, self.mean, self.scale)

    def stored(self, scales: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and scale (C, 1, 1) of maps as they are stored: what int8 with these scales (2, C, 1, 1) stand
        for is one more scale and zero."""
        if scales is None:
            return self.mean, self.scale
        return self.mean / scales[0] + scales[1], self.scale * scales[0]


def normalised(maps: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """(maps - mean) · scale in a new tensor, float32 at least."""
    # torch takes ten times as long for a difference of two types on a CPU.
    wide = maps.to(torch.promote_types(maps.dtype, mean.dtype))
    return (maps - mean if wide is maps else wide.sub_(mean)).mul_(scale)
