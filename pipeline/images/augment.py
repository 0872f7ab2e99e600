"""Random crops and flips of whole images, drawn first and applied afterwards.

Draws are plain integers, so they can be made for all rows at once, repeated, and tested apart from pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


def draw_centres(count: int, height: int, width: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Where the squares that `cut_out` blanks have their centres, down and right: (count, 2), any pixel."""
    return rng.integers(0, (height, width), size=(count, 2))


def apply(images: Tensor, draws: Draws | Tensor, rows: Tensor | None = None) -> Tensor:
    """Crop and flip images (N, 3, S, S) as drawn (B, 3), on their device. Same dtype, channels last.

    rows: (B,) which of the images; None means all, in their order.
    """
    count, _, height, width = images.shape
    pad, device = height // 8, images.device
    moves = draws if isinstance(draws, Tensor) else torch.from_numpy(draws).to(device)
    down, right, flip = moves.unbind(1)
    top, left = (shift * pad // STEPS - pad for shift in (down, right))
    y = _reflected(top[:, None] + torch.arange(height, device=device), height)  # (B, S)
    x = _reflected(left[:, None] + torch.arange(width, device=device), width)
    x = torch.where(flip[:, None] == 1, x.flip(1), x)
    which = torch.arange(count, device=device) if rows is None else rows
    return images.permute(0, 2, 3, 1)[which[:, None, None], y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2)


def _reflected(places: Tensor, side: int) -> Tensor:
    """The pixels that stand for those at `places`, which may lie less than a side before or behind."""
    return (side - 1) - ((side - 1) - places.abs()).abs()


def cut_out(images: Tensor, centres: Tensor, side_px: int, fill: Tensor) -> Tensor:
    """Images (B, 3, S, S) with a square of `side_px` in each, around centres (B, 2), of colour `fill` (3,).

    A part of the square may lie outside. Source: DeVries and Taylor, "Improved Regularization of
    Convolutional Neural Networks with Cutout" (arXiv 1708.04552).
    """
    _, _, height, width = images.shape
    top, left = (centres - side_px // 2).unbind(1)
    down = torch.arange(height, device=images.device) - top[:, None]  # (B, S) pixels below the square's top
    right = torch.arange(width, device=images.device) - left[:, None]
    inside_BHW = ((down >= 0) & (down < side_px))[:, :, None] & ((right >= 0) & (right < side_px))[:, None, :]
    return torch.where(inside_BHW[:, None], fill.view(1, 3, 1, 1), images)
