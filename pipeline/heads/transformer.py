"""A spatial transformer without rotation or shear: it samples a grid of points in a region of a map.

The region (sx, sy, tx, ty) lies in coordinates of a crop that run from -1 at the centre of its first cell to 1
at that of its last (`align_corners=True`), and is sampled at rows·columns points, evenly from edge to edge:

    point (p, q)   y = sy·g_p + ty   x = sx·g_q + tx   g from -1 to 1

As y does not depend on q nor x on p, bilinear interpolation is two small products with the crop, F = Ay·f·Axᵀ,
where a row of Ay holds the at most two weights of a point's neighbours. What lies outside of the crop counts as
zero (`padding_mode="zeros"`). A crop is a window of its map and a mirrored one has its columns numbered from
the right, so both are matrices too, and no crop is ever copied.

Shapes: M heads of the stack, B images, V views, N crops of a view, C×H×W cells of a map, p×q points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.crops import Crop


class Transformer(nn.Module):
    """Samples regions of crops; the crops of each view lie next to each other, as many for each."""

    def __init__(self, crops: Sequence[Crop], map_cells: tuple[int, int], points: tuple[int, int]) -> None:
        super().__init__()
        self.crops, self.points = tuple(crops), points
        self.views = 1 + max(crop.view for crop in crops)
        self.crop_cells = crops[0].box[2:]
        rows = [_numbers(box.top, box.height, map_cells[0], False) for box, _, _ in crops]
        columns = [_numbers(box.left, box.width, map_cells[1], mirrored) for box, mirrored, _ in crops]
        self.register_buffer("rows", torch.stack(rows), persistent=False)  # (V·N, H)
        self.register_buffer("columns", torch.stack(columns), persistent=False)  # (V·N, W)
        self.register_buffer("grid_y", _grid(points[0]), persistent=False)
        self.register_buffer("grid_x", _grid(points[1]), persistent=False)
        self.rows: Tensor
        self.columns: Tensor
        self.grid_y: Tensor
        self.grid_x: Tensor

    def forward(self, maps_BVHCW: Tensor, theta_MBN4: Tensor) -> Tensor:
        """Regions (M, B, V·N, 4) of maps (B, V, H, C, W) → (M, B, V·N, p·C·q). No gradient for the maps."""
        batch, views, height, channels, width = maps_BVHCW.shape
        (p, q), heads, dtype = self.points, len(theta_MBN4), maps_BVHCW.dtype
        theta = theta_MBN4.transpose(0, 1).unflatten(2, (views, -1)).permute(2, 0, 3, 1, 4)  # V, B, N, M, 4
        theta = theta.transpose(0, 1)  # (B, V, N, M, 4)
        numbers = [n.view(views, -1, 1, 1, n.shape[1]) for n in (self.rows, self.columns)]
        sx, sy, tx, ty = theta[..., None].unbind(-2)
        weights_y = _weights(sy * self.grid_y + ty, numbers[0], self.crop_cells[0])  # (B, V, N, M, p, H)
        weights_x = _weights(sx * self.grid_x + tx, numbers[1], self.crop_cells[1])  # (B, V, N, M, q, W)
        lines = weights_y.to(dtype).reshape(batch * views, -1, height)  # (B·V, N·M·p, H)
        sampled = torch.bmm(lines, maps_BVHCW.reshape(batch * views, height, channels * width))
        sampled = sampled.view(-1, p * channels, width)  # (B·V·N·M, p·C, W)
        sampled = torch.bmm(sampled, weights_x.to(dtype).reshape(-1, q, width).transpose(1, 2))
        return sampled.view(batch, len(self.crops), heads, -1).permute(2, 0, 1, 3)

    def whole(self, maps_BVHCW: Tensor) -> Tensor:
        """(B, V·N, p·C·q): each crop as a whole."""
        identity = self.grid_x.new_tensor([1, 1, 0, 0])
        return self(maps_BVHCW, identity.expand(1, len(maps_BVHCW), len(self.crops), 4))[0]


def _weights(places: Tensor, numbers: Tensor, cells: int) -> Tensor:
    """(..., points, cells of the map) how much of each cell a point at `places` takes.

    At a cell's very centre the slope is that towards the next cell, as `grid_sample` has it.
    """
    distance = ((places + 1) * ((cells - 1) / 2))[..., None] - numbers
    towards = torch.where(distance < 0, distance, -distance)
    return torch.where((distance >= -1) & (distance < 1), 1 + towards, 0)


def _numbers(first: int, count: int, cells: int, mirrored: bool) -> Tensor:
    """Which cell of the crop each cell of the map's side is; infinity outside, out of every point's reach."""
    numbers = torch.full((cells,), torch.inf)
    inside = torch.arange(count, dtype=numbers.dtype)
    numbers[first : first + count] = inside.flip(0) if mirrored else inside
    return numbers


def _grid(points: int) -> Tensor:
    """From edge to edge; a single point lies in the middle, as in `affine_grid`."""
    return torch.linspace(-1, 1, points) if points > 1 else torch.zeros(1)
