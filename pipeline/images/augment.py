"""Random crops and flips of whole images, drawn first and applied afterwards.

Draws are plain integers, so they can be made for all rows at once, repeated, and tested apart from pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from pipeline.config.pretrain import ImagePolicy

STEPS = 4
"""An eighth of the side is added on each side, by reflection, before an image is cropped back to its size: 4
pixels at 32 px, 28 at 224 px. A crop moves in quarters of that."""

Draws = NDArray[np.int64]
"""(N, 3): how far down and right the crop is in the padded image, 0 to 8 quarters, and whether it is flipped.
Plain is (4, 4, 0)."""


def draw(count: int, policy: ImagePolicy, rng: np.random.Generator) -> Draws:
    """Draws for `count` images: `plain` leaves them, `flip` flips half of them, `crop-flip` crops as well."""
    draws = rng.integers(0, (2 * STEPS + 1, 2 * STEPS + 1, 2), size=(count, 3))
    if policy != "crop-flip":
        draws[:, :2] = STEPS
    if policy == "plain":
        draws[:, 2] = 0
    return draws


def apply(images: Tensor, draws: Draws) -> Tensor:
    """Crop and flip images (B, 3, S, S) as drawn (B, 3), on the images' device. Same dtype, channels last."""
    count, _, height, width = images.shape
    pad = height // 8
    down, right, flip = torch.from_numpy(draws).to(images.device).unbind(1)
    top, left = down * pad // STEPS, right * pad // STEPS
    rows = top[:, None] + torch.arange(height, device=images.device)  # (B, S)
    columns = left[:, None] + torch.arange(width, device=images.device)
    columns = torch.where(flip[:, None] == 1, columns.flip(1), columns)
    padded = F.pad(images, (pad,) * 4, mode="reflect").permute(0, 2, 3, 1)
    batch = torch.arange(count, device=images.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def cut_out(images: Tensor, side_px: int, fill: Sequence[float], rng: np.random.Generator) -> Tensor:
    """Images (B, 3, S, S) with a square of `side_px` in each, at a random place, set to `fill` (3 values).

    The square's centre is anywhere in the image, so a part of it may lie outside. Source: DeVries and Taylor,
    "Improved Regularization of Convolutional Neural Networks with Cutout" (arXiv 1708.04552).
    """
    count, _, height, width = images.shape
    corners = torch.from_numpy(rng.integers(0, (height, width), size=(count, 2)) - side_px // 2)
    top, left = corners.to(images.device).unbind(1)
    down = torch.arange(height, device=images.device) - top[:, None]  # (B, S) pixels below the square's top
    right = torch.arange(width, device=images.device) - left[:, None]
    inside_BHW = ((down >= 0) & (down < side_px))[:, :, None] & ((right >= 0) & (right < side_px))[:, None, :]
    colour = torch.tensor(fill, device=images.device).to(images.dtype).view(1, 3, 1, 1)
    return torch.where(inside_BHW[:, None], colour, images)
