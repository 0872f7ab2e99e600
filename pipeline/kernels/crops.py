"""ReLU of every crop and its mirror, summed over the crops of an image, and its gradient.

Legend: B images, S boxes, N hidden units of all heads; p, q (B·S, N) as in `pipeline.heads.folding`. With q,
box s stands for p + q + b and, if s < pairs, for the mirror p - q + b; without, for p + b alone.
Sums are taken in float32.
"""

# Kernels are written in Triton's language, whose types are not Python's.
# pyright: reportArgumentType=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 256
"""Hidden units per program."""
IMAGES = 4
"""Images per program of the backward pass, which sums their part of the bias's gradient."""


@triton.jit
def _sum_crops(
    p,
    q,
    bias,
    total,
    columns,
    BOXES: tl.constexpr,
    PAIRS: tl.constexpr,
    FOLDED: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    image = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    b = tl.load(bias + column, inside, 0.0).to(tl.float32)
    result = tl.zeros((COLUMNS,), tl.float32)
    for box in range(BOXES):
        at = (image * BOXES + box) * columns + column
        x = tl.load(p + at, inside, 0.0).to(tl.float32) + b
        if FOLDED:
            y = tl.load(q + at, inside, 0.0).to(tl.float32)
            result += tl.maximum(x + y, 0.0)
            if box < PAIRS:
                result += tl.maximum(x - y, 0.0)
        else:
            result += tl.maximum(x, 0.0)
    tl.store(total + image * columns + column, result, inside)


@triton.jit(do_not_specialize=["images"])
def _spread_gradient(
    p,
    q,
    bias,
    grad,
    partial,
    images,
    columns,
    BOXES: tl.constexpr,
    PAIRS: tl.constexpr,
    FOLDED: tl.constexpr,
    IMAGES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    group = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = column < columns
    b = tl.load(bias + column, inside, 0.0).to(tl.float32)
    to_bias = tl.zeros((COLUMNS,), tl.float32)
    for i in range(IMAGES):
        image = group * IMAGES + i
        here = inside & (image < images)
        g = tl.load(grad + image * columns + column, here, 0.0).to(tl.float32)
        for box in range(BOXES):
            at = (image * BOXES + box) * columns + column
            x = tl.load(p + at, here, 0.0).to(tl.float32) + b
            if FOLDED:
                y = tl.load(q + at, here, 0.0).to(tl.float32)
                up = tl.where(x + y > 0, g, 0.0)
                down = tl.where((x - y > 0) & (box < PAIRS), g, 0.0)
                tl.store(q + at, up - down, here)
                up += down
            else:
                up = tl.where(x > 0, g, 0.0)
            tl.store(p + at, up, here)
            to_bias += up
    tl.store(partial + group * columns + column, to_bias, inside)


def sum_crops(p: Tensor, q: Tensor | None, bias: Tensor, boxes: int, pairs: int) -> Tensor:
    """Sum relu(p + q + b) over all boxes, and relu(p - q + b) over the first `pairs`: (B, N) float32."""
    rows, columns = p.shape
    total = p.new_empty((rows // boxes, columns), dtype=torch.float32)
    width, grid = _grid(len(total), columns)
    _sum_crops[grid](p, p if q is None else q, bias, total, columns, boxes, pairs, q is not None, width)
    return total


def spread_gradient(
    p: Tensor, q: Tensor | None, bias: Tensor, grad: Tensor, boxes: int, pairs: int
) -> Tensor:
    """Turn p and q into their own gradients in place, given the gradient (B, N) of `sum_crops`; returns the
    gradient of the bias, (N,) float32."""
    images, columns = grad.shape
    partial = grad.new_empty((-(-images // IMAGES), columns), dtype=torch.float32)
    width, grid = _grid(len(partial), columns)
    folded, differences, grad = q is not None, p if q is None else q, grad.contiguous()
    _spread_gradient[grid](
        p, differences, bias, grad, partial, images, columns, boxes, pairs, folded, IMAGES, width
    )
    return partial.sum(0)


def _grid(programs: int, columns: int) -> tuple[int, tuple[int, int]]:
    """Columns per program, and the grid of programs."""
    width = min(COLUMNS, triton.next_power_of_2(columns))
    return width, (programs, triton.cdiv(columns, width))
