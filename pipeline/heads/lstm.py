"""The LSTM's cell without its matrix product: gates, memory and hidden state, with a gradient in few passes.

Gates lie in the order of `torch.nn.LSTMCell`: input, forget, candidate, output.

Shapes: M heads, R rows, h width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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


class Cell(torch.autograd.Function):
    """Gates (M, R, 4h) before their activation and memory (M, R, h) → the next hidden state and memory."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        width = memory.shape[2]
        active = gates.sigmoid()
        take, keep, candidate, show = active.split(width, 2)
        torch.tanh(gates[..., 2 * width : 3 * width], out=candidate)
        after = torch.addcmul(keep * memory, take, candidate)
        seen = after.tanh()
        ctx.save_for_backward(active, memory, seen)
        return show * seen, after

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, hidden: Tensor, after: Tensor
    ) -> tuple[Tensor, Tensor]:
        active, memory, seen = ctx.saved_tensors
        take, keep, candidate, show = active.split(memory.shape[2], 2)
        after = after + torch.ops.aten.tanh_backward(hidden * show, seen)
        grad = torch.cat([after * candidate, after * memory, after * take, hidden * seen], 2)
        into = grad.split(memory.shape[2], 2)
        torch.ops.aten.tanh_backward(into[2], candidate, grad_input=into[2])
        for part, gate in ((into[0], take), (into[1], keep), (into[3], show)):
            torch.ops.aten.sigmoid_backward(part, gate, grad_input=part)
        return grad, after * keep
