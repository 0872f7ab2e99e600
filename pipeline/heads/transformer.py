"""A spatial transformer without rotation or shear: it samples a grid of points in a region of a map.

The region (sx, sy, tx, ty) lies in coordinates of a crop that run from -1 at the centre of its first cell to
1 at that of its last (`align_corners=True`), and is sampled at p·q points, evenly from edge to edge:

    point (i, j)   y = sy·g_i + ty   x = sx·g_j + tx   g from -1 to 1

As y does not depend on j nor x on i, bilinear interpolation is two small products with the crop, Ay·f·Axᵀ,
where a row of Ay holds the at most two weights of a point's neighbours. Outside of the crop all is zero
(`padding_mode="zeros"`). A crop is a window of its map, and a mirrored one has its columns numbered from the
right; both are in the matrices, so no crop is ever copied.

Shapes: M heads, B images, V views, N crops of all views, C×H×W cells of a map, p×q points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.maps.crops import Crop


class Transformer(nn.Module):
    """Samples regions of crops. The crops of a view lie next to each other; each view has equally many."""

    def __init__(self, crops: Sequence[Crop], map_cells: tuple[int, int], points: tuple[int, int]) -> None:
        super().__init__()
        self.points = points
        self.crop_cells = (crops[0].box.height, crops[0].box.width)
        rows = [_numbers(box.top, box.height, map_cells[0], False) for box, _, _ in crops]
        columns = [_numbers(box.left, box.width, map_cells[1], mirrored) for box, mirrored, _ in crops]
        self.register_buffer("rows", torch.stack(rows)[:, None, None], persistent=False)  # (N, 1, 1, H)
        self.register_buffer("columns", torch.stack(columns)[:, None, None], persistent=False)  # (N, 1, 1, W)
        self.rows: Tensor
        self.columns: Tensor

    def forward(self, maps_BVHCW: Tensor, theta_MBN4: Tensor) -> Tensor:
        """Sample regions of the crops of maps: (M, B, N, p·C·q). No gradient for the maps."""
        batch, views, height, channels, width = maps_BVHCW.shape
        heads, _, crops, _ = theta_MBN4.shape
        (p, q), dtype = self.points, maps_BVHCW.dtype
        sx, sy, tx, ty = theta_MBN4.permute(1, 2, 0, 3)[..., None].unbind(3)  # each (B, N, M, 1)
        y_BNMpH = _weights(sy * _grid(p, sy) + ty, self.rows, self.crop_cells[0])
        x_BNMqW = _weights(sx * _grid(q, sx) + tx, self.columns, self.crop_cells[1])
        lines = y_BNMpH.to(dtype).reshape(batch * views, -1, height)  # each view's crops and heads as one
        sampled = torch.bmm(lines, maps_BVHCW.reshape(batch * views, height, channels * width))
        points = x_BNMqW.to(dtype).reshape(-1, q, width).transpose(1, 2)
        sampled = torch.bmm(sampled.view(-1, p * channels, width), points)
        return sampled.view(batch, crops, heads, -1).permute(2, 0, 1, 3)

    def whole(self, maps_BVHCW: Tensor) -> Tensor:
        """Sample each crop as a whole: (B, N, p·C·q)."""
        region = torch.tensor([1, 1, 0, 0], dtype=maps_BVHCW.dtype, device=maps_BVHCW.device)
        return self(maps_BVHCW, region.expand(1, len(maps_BVHCW), len(self.rows), 4))[0]


def _weights(places: Tensor, numbers: Tensor, cells: int) -> Tensor:
    """Weights of the map's cells at each point: places (..., points) → (..., points, cells of the map).

    At the very centre of a cell the slope is the one towards the next cell, as in `grid_sample`.
    """
    distance = ((places + 1) * ((cells - 1) / 2))[..., None] - numbers
    towards = torch.where(distance < 0, distance, -distance)
    return torch.where((distance >= -1) & (distance < 1), 1 + towards, 0)


def _numbers(first: int, count: int, cells: int, mirrored: bool) -> Tensor:
    """Number the cells of the map's side as cells of the crop; infinity, out of any reach, outside of it."""
    numbers = torch.full((cells,), torch.inf)
    inside = torch.arange(count, dtype=numbers.dtype)
    numbers[first : first + count] = inside.flip(0) if mirrored else inside
    return numbers


def _grid(points: int, like: Tensor) -> Tensor:
    """Place points evenly from edge to edge; a single one lies in the middle, as in `affine_grid`."""
    edge = 1 if points > 1 else 0
    return torch.linspace(-edge, edge, points, dtype=like.dtype, device=like.device)
