"""Random crops and flips of whole images, drawn first and applied afterwards.

Draws are plain integers, so they can be made for all rows at once, repeated, and tested apart from pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import ImagePolicy

PAD_PX = 4
"""Pixels added on each side (by reflection) before an image is cropped back to its size."""

Draws = NDArray[np.int64]
"""(N, 3): top and left of the crop in the padded image, and whether it is flipped. Plain is (4, 4, 0)."""


def draw(count: int, policy: ImagePolicy, rng: np.random.Generator) -> Draws:
    """Draws for `count` images: `plain` leaves them, `flip` flips half of them, `crop-flip` crops as well."""
    draws = rng.integers(0, (2 * PAD_PX + 1, 2 * PAD_PX + 1, 2), size=(count, 3))
    if policy != "crop-flip":
        draws[:, :2] = PAD_PX
    if policy == "plain":
        draws[:, 2] = 0
    return draws


def apply(images: Tensor, draws: Draws) -> Tensor:
    """Crop and flip images (B, 3, S, S) as drawn (B, 3), on the images' device. Same dtype, channels last."""
    count, _, height, width = images.shape
    top, left, flip = torch.from_numpy(draws).to(images.device).unbind(1)
    rows = top[:, None] + torch.arange(height, device=images.device)  # (B, S)
    columns = left[:, None] + torch.arange(width, device=images.device)
    columns = torch.where(flip[:, None] == 1, columns.flip(1), columns)
    padded = F.pad(images, (PAD_PX,) * 4, mode="reflect").permute(0, 2, 3, 1)
    batch = torch.arange(count, device=images.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
