"""The cells around each point of regions, with their weights, and the gradient of the regions: a launch each.

Legend: M heads, B images, N crops of an image, K = M·B·N regions, p×q points of a region, P the larger.
"""

# Kernels are written in Triton's language, whose types are not Python's.
# pyright: reportArgumentType=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _axis(theta, reach, half, last, point, here, AXIS: tl.constexpr, P: tl.constexpr):
    """The number of the cell before each point along an axis, the weights of it and the next, and whether
    they are inside of the crop."""
    edge = tl.load(half + AXIS)
    size, middle = tl.load(theta + AXIS), tl.load(theta + 2 + AXIS)
    place = edge + middle * edge + size * tl.load(reach + AXIS * P + point, here, 0.0)
    lower = tl.floor(place)
    upper = place - lower
    end = tl.load(last + AXIS)
    in_lower, in_upper = (lower >= 0) & (lower <= end), (lower >= -1) & (lower < end)
    return lower, tl.where(in_lower, 1 - upper, 0.0), tl.where(in_upper, upper, 0.0), in_lower, in_upper


@triton.jit
def _look(
    theta, reach, half, last, steps, images, rows, shares, regions, crops,
    p: tl.constexpr, q: tl.constexpr, P: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    region = tl.program_id(0).to(tl.int64)
    number = tl.arange(0, POINTS)
    here = number < p * q
    x, wx0, wx1, inx0, inx1 = _axis(theta + 4 * region, reach, half, last, number % q, here, 0, P)
    y, wy0, wy1, iny0, iny1 = _axis(theta + 4 * region, reach, half, last, number // q, here, 1, P)
    crop = region % crops
    along, down = tl.load(steps + 2 * crop), tl.load(steps + 2 * crop + 1)
    x0, x1 = tl.where(inx0, x, 0.0).to(tl.int64) * along, tl.where(inx1, x + 1, 0.0).to(tl.int64) * along
    y0, y1 = tl.where(iny0, y, 0.0).to(tl.int64) * down, tl.where(iny1, y + 1, 0.0).to(tl.int64) * down
    first = tl.load(images + region % regions)
    at = (region * p * q + number) * 4
    tl.store(rows + at, first + y0 + x0, here)
    tl.store(rows + at + 1, first + y0 + x1, here)
    tl.store(rows + at + 2, first + y1 + x0, here)
    tl.store(rows + at + 3, first + y1 + x1, here)
    tl.store(shares + at, wy0 * wx0, here)
    tl.store(shares + at + 1, wy0 * wx1, here)
    tl.store(shares + at + 2, wy1 * wx0, here)
    tl.store(shares + at + 3, wy1 * wx1, here)


@triton.jit
def _look_gradient(
    theta, reach, half, last, grad, into,
    p: tl.constexpr, q: tl.constexpr, P: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    region = tl.program_id(0).to(tl.int64)
    number = tl.arange(0, POINTS)
    here = number < p * q
    _, wx0, wx1, inx0, inx1 = _axis(theta + 4 * region, reach, half, last, number % q, here, 0, P)
    _, wy0, wy1, iny0, iny1 = _axis(theta + 4 * region, reach, half, last, number // q, here, 1, P)
    at = (region * p * q + number) * 4
    g00, g01 = tl.load(grad + at, here, 0.0).to(tl.float32), tl.load(grad + at + 1, here, 0.0).to(tl.float32)
    g10, g11 = (
        tl.load(grad + at + 2, here, 0.0).to(tl.float32),
        tl.load(grad + at + 3, here, 0.0).to(tl.float32),
    )
    x = tl.where(inx1, g01 * wy0 + g11 * wy1, 0.0) - tl.where(inx0, g00 * wy0 + g10 * wy1, 0.0)
    y = tl.where(iny1, g10 * wx0 + g11 * wx1, 0.0) - tl.where(iny0, g00 * wx0 + g01 * wx1, 0.0)
    to = into + 4 * region
    tl.store(to, tl.sum(x * tl.load(reach + number % q, here, 0.0)))
    tl.store(to + 1, tl.sum(y * tl.load(reach + P + number // q, here, 0.0)))
    tl.store(to + 2, tl.sum(x) * tl.load(half))
    tl.store(to + 3, tl.sum(y) * tl.load(half + 1))


def look(
    theta: Tensor, reach: Tensor, half: Tensor, last: Tensor, steps: Tensor, images: Tensor,
    points: tuple[int, int], dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The rows (K·p·q, 4) of the cells around each point of regions (M, B, N, 4), and their weights in
    `dtype`. The other arguments are those of `pipeline.heads.transformer`."""
    p, q = points
    theta, regions = theta.contiguous(), theta.numel() // 4
    rows = torch.empty(regions * p * q, 4, dtype=torch.int64, device=theta.device)
    shares = torch.empty_like(rows, dtype=dtype)
    _look[(regions,)](
        theta, reach, half, last, steps, images, rows, shares, images.numel(), len(steps),
        p, q, max(points), triton.next_power_of_2(p * q),
    )  # fmt: skip
    return rows, shares


def look_gradient(
    theta: Tensor, reach: Tensor, half: Tensor, last: Tensor, grad: Tensor, points: tuple[int, int]
) -> Tensor:
    """The gradient of regions (M, B, N, 4), given that of the weights (K·p·q·4,)."""
    p, q = points
    theta, into = theta.contiguous(), torch.empty_like(theta, memory_format=torch.contiguous_format)
    _look_gradient[(theta.numel() // 4,)](
        theta, reach, half, last, grad, into, p, q, max(points), triton.next_power_of_2(p * q)
    )
    return into
