"""A spatial transformer without rotation or shear: it samples a grid of points in a region of a map.

The region (sx, sy, tx, ty) lies in coordinates of a crop that run from -1 at the centre of its first cell to
1 at that of its last (`align_corners=True`), and is sampled at p·q points, evenly from edge to edge:

    point (i, j)   y = sy·g_i + ty   x = sx·g_j + tx   g from -1 to 1

A point is the weighted sum of the four cells around it, of which those outside of the crop are zero
(`padding_mode="zeros"`). With channels last a cell is a row of a table, so all points of a batch are one
look-up with weights, as of an embedding. A crop is a window of its map, and a mirrored one has its columns
numbered from the right; both are in the numbers of the rows, so no crop is ever copied.

Shapes: M heads, B images, L = V·H·W cells of all views of an image, C channels, N crops of all views, p×q
points, P the larger of them. Axes are x, y.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import kernels
from pipeline.maps.crops import Crop


class Ground(NamedTuple):
    """What all looks at a batch have in common."""

    half: Tensor  # (2, 1) half of the crop's reach
    reach: Tensor  # (2, P) cells from the middle of a region as large as the crop to its points
    images: Tensor  # (B, N) row of each crop's first cell
    starts: Tensor  # (M·B·N·p·q,) number of each point's first cell among all of them
    points: Tensor  # (M·B·N·p·q·4,) number of each cell's point


class Look(NamedTuple):
    """The cells around each point of some regions."""

    theta: Tensor  # (M, B, N, 4)
    rows: Tensor  # (M·B·N·p·q, 4) of the table
    shares: Tensor  # (M·B·N·p·q, 4) weights of these rows, 0 outside of the crop
    weights: Tensor | None = None  # (M, B, N, 2, P, 2) of the two cells along each axis
    outside: Tensor | None = None  # (M, B, N, 2, P, 2)


class Transformer(nn.Module):
    """Samples regions of crops, which are equally large."""

    def __init__(self, crops: Sequence[Crop], map_cells: tuple[int, int], points: tuple[int, int]) -> None:
        super().__init__()
        (height, width), (_, _, rows, columns) = map_cells, crops[0].box
        self.points = points
        firsts = [
            view * height * width + box.top * width + box.left + (columns - 1 if mirrored else 0)
            for box, mirrored, view in crops
        ]
        steps = [[-1 if crop.mirrored else 1, width] for crop in crops]
        last = [[columns - 1], [rows - 1]]
        buffers = {"firsts": torch.tensor(firsts), "steps": torch.tensor(steps), "last": torch.tensor(last)}
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)
        self.firsts: Tensor  # (N,) the row of each crop's first cell
        self.steps: Tensor  # (N, 2) rows from a cell to the next
        self.last: Tensor  # (2, 1) number of the last cell

    def forward(self, maps_BLC: Tensor, theta_MBN4: Tensor) -> Tensor:
        """Sample regions of the crops of maps: (M, B, N, p·q·C). `gradient` is its gradient."""
        ground = self.ground(maps_BLC, len(theta_MBN4), theta_MBN4.dtype)
        return self.sample(maps_BLC, self.look(theta_MBN4, ground))

    def whole(self, maps_BLC: Tensor) -> Tensor:
        """Sample each crop as a whole: (B, N, p·q·C)."""
        region = torch.tensor([1, 1, 0, 0], dtype=maps_BLC.dtype, device=maps_BLC.device)
        return self(maps_BLC, region.expand(1, len(maps_BLC), len(self.firsts), 4))[0]

    def ground(self, maps_BLC: Tensor, heads: int, dtype: torch.dtype) -> Ground:
        """Prepare for looks of M heads at these maps, at regions of this dtype."""
        (images, cells, _), (p, q), device = maps_BLC.shape, self.points, maps_BLC.device
        half = self.last.to(dtype) / 2
        # Evenly from edge to edge; a single point lies in the middle, as in `affine_grid`.
        edges = [torch.linspace(-(n > 1), n > 1, n, dtype=dtype, device=device) for n in (q, p)]
        reach = torch.stack([F.pad(edge, (0, max(p, q) - len(edge))) for edge in edges]) * half
        firsts = torch.arange(images, device=device)[:, None] * cells + self.firsts
        numbers = torch.arange(heads * firsts.numel() * p * q * 4, device=device)
        return Ground(half, reach, firsts, numbers[::4], numbers // 4)

    def look(self, theta_MBN4: Tensor, ground: Ground) -> Look:
        """Find the cells around each point."""
        half, reach, images = ground[:3]
        if kernels.usable(theta_MBN4):
            from pipeline.kernels import looks

            own = (self.last, self.steps, images, self.points, theta_MBN4.dtype)
            return Look(theta_MBN4, *looks.look(theta_MBN4, reach, half, *own))
        middle = torch.addcmul(half, theta_MBN4[..., 2:, None], half)
        places = torch.addcmul(middle, theta_MBN4[..., :2, None], reach)
        lower = places.floor()
        upper = places - lower
        numbers = torch.stack([lower, lower + 1], -1)
        outside = ((numbers >= 0) & (numbers <= self.last[..., None])).logical_not_()  # also of what is NaN
        weights = torch.stack([1 - upper, upper], -1).masked_fill_(outside, 0)
        x, y = (numbers.masked_fill_(outside, 0).long() * self.steps[:, :, None, None]).unbind(3)
        p, q = self.points
        rows = (y[..., :p, :] + images[..., None, None])[..., None, :, None] + x[..., None, :q, None, :]
        shares = self._along(weights, 1) * self._along(weights, 0)
        return Look(theta_MBN4, rows.view(-1, 4), shares.view(-1, 4), weights, outside)

    def sample(self, maps_BLC: Tensor, look: Look) -> Tensor:
        """Sample the points of a look: (M, B, N, p·q·C)."""
        shares, table = look.shares.to(maps_BLC.dtype), maps_BLC.reshape(-1, maps_BLC.shape[-1])
        sampled = F.embedding_bag(look.rows, table, per_sample_weights=shares, mode="sum")
        return sampled.view(*look.theta.shape[:3], -1)

    def gradient(self, maps_BLC: Tensor, look: Look, ground: Ground, grad: Tensor) -> Tensor:
        """The gradient of the regions (M, B, N, 4), given that of the samples (M, B, N, p·q·C)."""
        (p, q), table, weights = self.points, maps_BLC.reshape(-1, maps_BLC.shape[-1]), look.weights
        grad = grad.view(-1, table.shape[1])
        shares = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            grad, table, look.rows.view(-1), ground.starts, ground.points, 0
        )
        if weights is None or look.outside is None:
            from pipeline.kernels import looks

            own = (ground.reach, ground.half, self.last)
            return looks.look_gradient(look.theta, *own, shares, self.points)
        shares = shares.view(*weights.shape[:3], p, q, 2, 2).to(weights.dtype)
        into = torch.zeros_like(weights)
        torch.sum(shares * self._along(weights, 0), (4, 6), out=into[..., 1, :p, :])
        torch.sum(shares * self._along(weights, 1), (3, 5), out=into[..., 0, :q, :])
        lower, upper = into.masked_fill_(look.outside, 0).unbind(-1)
        places = upper - lower
        size, middle = (places * ground.reach).sum(-1), places.sum(-1) * ground.half[:, 0]
        return torch.cat([size, middle], -1)

    def _along(self, weights: Tensor, axis: int) -> Tensor:
        """The weights along an axis, as (M, B, N, p, q, 2, 2) with sides of 1 along the other."""
        p, q = self.points
        return weights[..., 0, None, :q, None, :] if axis == 0 else weights[..., 1, :p, None, :, None]
