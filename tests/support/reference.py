"""Heads written the slow and plain way, in loops over images' crops; nothing of pipeline/heads is used."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import functional as tv


def crops(kind: str, maps_BVCHW: Tensor, crop_cells: int) -> list[Tensor]:
    """The crops of one kind, each (B, C, h, w), by torchvision."""
    plain, size = maps_BVCHW[:, 0], [crop_cells, crop_cells]
    if kind == "full":
        return [plain]
    if kind == "center":
        return [tv.center_crop(plain, size)]
    if kind == "five":
        return list(tv.five_crop(plain, size))
    if kind == "ten":
        return list(tv.ten_crop(plain, size))
    return [*tv.five_crop(plain, size), *tv.five_crop(maps_BVCHW[:, 1], size)]


def fullnet(views: list[Tensor], layers: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores (B, K): one forward pass per crop, then the average. Layers are (out, in) weights and biases."""
    total = torch.zeros(())
    for crop in views:
        hidden = crop.flatten(1)
        for i, (weight, bias) in enumerate(layers):
            hidden = F.linear(hidden, weight, bias)
            if i < len(layers) - 1:
                hidden = hidden.relu()
        total = total + hidden
    return total / len(views)
