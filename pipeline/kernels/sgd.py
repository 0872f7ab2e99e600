"""Clipping and Nesterov SGD for a stack of heads: two passes over gradients, each a launch per parameter.

Torch's fused SGD cuts a parameter into pieces of 65,536 numbers, too few to keep a GPU busy with a small
head, and knows one learning rate and no clipping.

Legend: M heads.
"""

# Kernels are written in Triton's language, whose types are not Python's.
# pyright: reportArgumentType=false, reportCallIssue=false

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 2048
"""Numbers that a program handles at once."""
MOST_PARTS = 128
"""Parts of a head's share of a parameter, each with a sum of squares of its own."""


@triton.jit(do_not_specialize=["first", "slots"])
def _sum_squares(grad, squares, size, first, slots, REPEATS: tl.constexpr, BLOCK: tl.constexpr):
    head, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    result = tl.zeros((BLOCK,), tl.float32)
    for i in range(REPEATS):
        at = (part * REPEATS + i) * BLOCK + tl.arange(0, BLOCK)
        g = tl.load(grad + head * size + at, at < size, 0.0)
        result += g * g
    tl.store(squares + head * slots + first + part, tl.sum(result))


@triton.jit(do_not_specialize=["slots"])
def _update(
    weight,
    grad,
    momentum,
    squares,
    lr,
    decay,
    factor,
    size,
    slots,
    longest,
    keep,
    SLOTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    part, head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    slot = tl.arange(0, SLOTS)
    length = tl.sqrt(tl.sum(tl.load(squares + head * slots + slot, slot < slots, 0.0)))
    shorter = tl.where(length > longest, longest / length, 1.0)
    shorter = tl.where(length == length, shorter, length)  # NaN stays NaN
    at = part * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    at += head * size
    w = tl.load(weight + at, inside)
    g = tl.load(grad + at, inside) * shorter + tl.load(decay + head) * w
    v = keep * tl.load(momentum + at, inside) + g
    tl.store(momentum + at, v, inside)
    tl.store(weight + at, w - tl.load(lr + head) * tl.load(factor) * (g + keep * v), inside)


def clip_and_step(
    weights: list[Tensor],
    grads: list[Tensor],
    momenta: list[Tensor],
    lr: Tensor,
    decays: list[Tensor],
    factor: Tensor,
    longest: float,
    keep: float,
) -> None:
    """Shorten each head's gradient to `longest`, over all its parameters, and take a step, in place.

    weights, grads, momenta: (M, ...) float32, contiguous. lr and each of decays: (M,). factor: (), multiplies
    the learning rates. keep: the momentum's factor.
    """
    heads, sizes = len(lr), [w[0].numel() for w in weights]
    repeats = [triton.cdiv(size, BLOCK * MOST_PARTS) for size in sizes]
    parts = [triton.cdiv(size, BLOCK * n) for size, n in zip(sizes, repeats, strict=True)]
    slots, first = sum(parts), 0
    width = triton.next_power_of_2(slots)
    squares = torch.empty((heads, slots), device=lr.device)
    for grad, size, count, n in zip(grads, sizes, parts, repeats, strict=True):
        _sum_squares[(heads, count)](grad, squares, size, first, slots, n, BLOCK)
        first += count
    for weight, grad, momentum, decay, size in zip(weights, grads, momenta, decays, sizes, strict=True):
        # the longer side first: the second may have 65,535 programs
        _update[(triton.cdiv(size, BLOCK), heads)](
            weight, grad, momentum, squares, lr, decay, factor, size, slots, longest, keep, width, BLOCK
        )
