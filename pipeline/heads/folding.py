"""Ten crops at the price of five: crops in the mirror basis.

Reversing the columns of a crop x leaves x_j + x_(w-1-j) as it is and turns the sign of x_j - x_(w-1-j). So
crops are written in the orthonormal basis of these sums and differences over √2 (a middle column stays):

    even part  E(x) = [(x_j + x_(w-1-j))/√2 for j < w/2, x_middle]     odd part  O(x) = [(x_j - x_(w-1-j))/√2]

A layer W, written in the same basis, gives p + q on a crop and p - q on its mirror, where p = W_even·E(x) and
q = W_odd·O(x): two products serve two crops, with half the multiplications. The basis is orthonormal, so
gradient descent with momentum and weight decay goes exactly the way it goes in the plain basis.

Shapes: B images, C channels, h×w cells of a crop, D = C·h·w.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.maps.crops import Crop

HALF = math.sqrt(0.5)


class Folding(NamedTuple):
    """Crops in two kinds: pairs of a crop and its mirror image, and single ones."""

    pairs: tuple[Crop, ...]
    singles: tuple[Crop, ...]

    @property
    def boxes(self) -> int:
        return len(self.pairs) + len(self.singles)

    @property
    def crops(self) -> int:
        return 2 * len(self.pairs) + len(self.singles)

    def mask(self) -> Tensor | None:
        """A mask (2, 1, boxes, 1) of p + q and p - q: zero at a single's mirror image, which is no crop.

        None where all of them are crops.
        """
        if not (self.pairs and self.singles):
            return None
        mask = torch.ones(2, 1, self.boxes, 1)
        mask[1, 0, len(self.pairs) :] = 0
        return mask


def pair_up(crops: Sequence[Crop]) -> Folding:
    """Find each crop's mirror image. (A centre that lies between two cells has none.)"""
    pairs: list[Crop] = []
    singles: list[Crop] = []
    for crop in crops:
        image = crop._replace(mirrored=not crop.mirrored)
        if image in singles:
            singles.remove(image)
            pairs.append(image)
        else:
            singles.append(crop)
    return Folding(tuple(pairs), tuple(singles))


def even_size(channels: int, height: int, width: int) -> int:
    """The length of the even part of a crop; the odd part is the rest of channels·height·width."""
    return channels * height * ((width + 1) // 2)


def fold(crop_BChw: Tensor, out_BD: Tensor) -> Tensor:
    """Write crops in the mirror basis, even part first, into `out_BD`."""
    batch, channels, height, width = crop_BChw.shape
    half, even = width // 2, even_size(channels, height, width)
    left, right = crop_BChw[..., :half], crop_BChw[..., width - half :].flip(-1)
    even_BChw = out_BD[:, :even].view(batch, channels, height, width - half)
    odd_BChw = out_BD[:, even:].view(batch, channels, height, half)
    torch.add(left, right, out=even_BChw[..., :half]).mul_(HALF)
    torch.sub(left, right, out=odd_BChw).mul_(HALF)
    even_BChw[..., half:] = crop_BChw[..., half : width - half]
    return out_BD


def unfold(folded_BD: Tensor, channels: int, height: int, width: int) -> Tensor:
    """The inverse of `fold`: (B, D) in the mirror basis → (B, C, h, w)."""
    batch, half, even = len(folded_BD), width // 2, even_size(channels, height, width)
    even_BChw = folded_BD[:, :even].reshape(batch, channels, height, width - half)
    odd_BChw = folded_BD[:, even:].reshape(batch, channels, height, half)
    sums = even_BChw[..., :half]
    left, right = (sums + odd_BChw) * HALF, (sums - odd_BChw) * HALF
    return torch.cat([left, even_BChw[..., half:], right.flip(-1)], dim=-1)


def fold_crops(maps_BVCHW: Tensor, folding: Folding) -> Tensor:
    """Write every box of the maps in the mirror basis: (B, pairs + singles, D).

    A mirrored single has its odd part negated; in a pair, the unmirrored crop stands for both."""
    batch, _, channels, _, _ = maps_BVCHW.shape
    crops = folding.pairs + folding.singles
    _, _, height, width = crops[0].box
    size, even = channels * height * width, even_size(channels, height, width)
    out = maps_BVCHW.new_empty((batch, len(crops), size))
    for k, crop in enumerate(crops):
        top, left, _, _ = crop.box
        fold(maps_BVCHW[:, crop.view, :, top : top + height, left : left + width], out[:, k])
        if crop.mirrored:
            out[:, k, even:].neg_()
    return out
