"""The LSTM's cell without its matrix product: gates, memory and hidden state, with a gradient in few passes.

Gates lie in the order of `torch.nn.LSTMCell`: input, forget, candidate, output. On a GPU each way is one
launch of a custom kernel.

Shapes: M heads, R rows, h width.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline import kernels
from pipeline.heads.base import Head


def lstm_weight(head: Head, width: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Weight (M, 2h, 4h) for [x, hidden] and bias (M, 4h): Glorot for x, orthogonal for hidden, forget gates
    open."""
    weight = head.new_weight(2 * width, 4 * width, std=width**-0.5)
    bias = head.new_bias(4 * width)
    with torch.no_grad():
        hidden = weight[:, width:].unflatten(2, (4, width)).transpose(1, 2)  # (M, 4, h, h)
        hidden.copy_(torch.linalg.qr(hidden.double()).Q)
        bias[:, width : 2 * width] = 1
    return weight, bias


class Cell(NamedTuple):
    """What a step of the cell came to, as `cell_gradient` needs it."""

    active: Tensor  # (M, R, 4h) gates
    before: Tensor  # (M, R, h) memory
    after: Tensor
    seen: Tensor  # tanh of the memory after the step


def cell(gates: Tensor, before: Tensor, hidden: Tensor) -> Cell:
    """Take a step, from gates (M, R, 4h) before their activation and memory (M, R, h). The hidden state is
    written into `hidden` (M, R, h)."""
    if kernels.usable(gates, before, hidden):
        from pipeline.kernels import lstm

        active, after, seen = lstm.cell(gates, before, hidden)
        return Cell(active, before, after, seen)
    width, gates = before.shape[2], gates.to(before.dtype)
    active = gates.sigmoid()
    take, keep, candidate, show = active.split(width, 2)
    torch.tanh(gates[..., 2 * width : 3 * width], out=candidate)
    after = torch.addcmul(keep * before, take, candidate)
    seen = after.tanh()
    torch.mul(show, seen, out=hidden)
    return Cell(active, before, after, seen)


def cell_gradient(step: Cell, hidden: Tensor, after: Tensor, gates: Tensor) -> Tensor:
    """The gradient of the memory, given those of the next hidden state and memory; that of the gates is
    written into `gates` (M, R, 4h)."""
    active, before, _, seen = step
    if kernels.usable(active, hidden, gates):
        from pipeline.kernels import lstm

        return lstm.cell_gradient(active, before, seen, hidden, after, gates)
    take, keep, candidate, show = active.split(seen.shape[2], 2)
    after = after + torch.ops.aten.tanh_backward(hidden * show, seen)
    out = gates if gates.dtype == after.dtype else torch.empty_like(active)
    into = out.split(seen.shape[2], 2)
    by = (after, candidate), (after, before), (after, take), (hidden, seen)
    for part, (grad, factor) in zip(into, by, strict=True):
        torch.mul(grad, factor, out=part)
    torch.ops.aten.tanh_backward(into[2], candidate, grad_input=into[2])
    for part, gate in ((into[0], take), (into[1], keep), (into[3], show)):
        torch.ops.aten.sigmoid_backward(part, gate, grad_input=part)
    if out is not gates:
        gates.copy_(out)
    return after * keep
