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


def draw_turns(count: int, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """How many quarter turns `rotate` gives to `count` images: 1, 2 or 3 for a `share` of them, else 0."""
    turns = rng.integers(1, 4, size=count)
    return np.where(rng.uniform(size=count) < share, turns, 0)


def draw_boxes(
    count: int, share: float, height: int, width: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """What `paste` puts into `count` images: (count, 5), another one's position among them, and top, bottom,
    left and right of a box. A `share` of the images has one, of any area up to the whole image's; where it
    would reach beyond the rim it is cut off. The others' boxes are empty.
    """
    partners = rng.integers(0, count, size=count)
    middles = rng.integers(0, (height, width), size=(count, 2))
    ratio = np.sqrt(rng.uniform(size=count))  # of the sides, so that areas are uniform
    ratio[rng.uniform(size=count) >= share] = 0
    halves = (0.5 * ratio[:, None] * (height, width)).astype(np.int64)
    first, last = np.maximum(middles - halves, 0), np.minimum(middles + halves, (height, width))
    return np.stack([partners, first[:, 0], last[:, 0], first[:, 1], last[:, 1]], axis=1)


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


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Square images (B, 3, S, S), each turned left by 90 degrees `turns` (B,) times. Channels last."""
    out = images
    for turn in (1, 2, 3):
        out = torch.where((turns == turn)[:, None, None, None], images.rot90(turn, (2, 3)), out)
    return out.contiguous(memory_format=torch.channels_last)


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
    inside_BHW = _inside(height, width, top, top + side_px, left, left + side_px)
    return torch.where(inside_BHW[:, None], fill.view(1, 3, 1, 1), images)


def paste(images: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) with a box of another one in each, as drawn (B, 5), and the share of the area that
    is left of their own (B,), float32.

    Source: Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable
    Features" (arXiv 1905.04899), with a box of its own for each image.
    """
    _, _, height, width = images.shape
    partners, top, bottom, left, right = boxes.unbind(1)
    inside_BHW = _inside(height, width, top, bottom, left, right)
    own = 1 - (bottom - top) * (right - left) / (height * width)
    return torch.where(inside_BHW[:, None], images[partners], images), own


def _inside(height: int, width: int, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Which pixels (B, H, W) lie in a box of each image, whose bottom and right are the first beyond it."""
    y = torch.arange(height, device=top.device)
    x = torch.arange(width, device=top.device)
    rows = (y >= top[:, None]) & (y < bottom[:, None])  # (B, H)
    columns = (x >= left[:, None]) & (x < right[:, None])
    return rows[:, :, None] & columns[:, None, :]
