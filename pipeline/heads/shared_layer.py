"""A fully connected layer that a recurrence uses at every step, with its whole gradient in one product.

Autograd would compute the weight's gradient step by step: K products over a batch's few rows, each written
out in the weight's full size and added up. Here each step's backward pass keeps its inputs and its gradient,
and after the last of them the weight's gradient is one product over all K·R rows, written into the memory of
the gradient before (`pipeline.heads.gradients`).

    layer = SharedLayer(weight, bias, torch.float32)
    for k in range(K):
        y = layer(x)  # autograd as usual

Shapes: M heads, R rows, D inputs, h outputs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.heads.gradients import empty_gradient

Step = tuple[Tensor, Tensor]


class SharedLayer:
    """x·W + b for weight (M, D, h) and bias (M, h), in `dtype`; make a new one for each forward pass."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, *, relu: bool = False) -> None:
        self.weight, self.bias, self.relu = weight.detach().to(dtype), bias.detach().to(dtype), relu
        self.steps: list[Step] = []
        self._token = _Gather.apply(weight, bias, self.steps)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to (M, R, D), or to (R, D) for all heads alike: (M, R, h)."""
        return _Apply.apply(x, self._token, self)


class _Apply(torch.autograd.Function):
    """One step. The token ties it to `_Gather`, whose backward pass comes after that of every step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, token: Tensor, layer: SharedLayer) -> Tensor:
        heads = len(layer.weight)
        x = x.to(layer.weight.dtype)
        if x.ndim == 2:
            y = torch.stack([torch.addmm(layer.bias[m], x, layer.weight[m]) for m in range(heads)])
        else:
            y = torch.baddbmm(layer.bias[:, None], x, layer.weight)
        if layer.relu:
            y.relu_()
        ctx.save_for_backward(x, y if layer.relu else y.new_empty(0))
        ctx.layer = layer
        return y

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, Tensor, None]:
        x, y = ctx.saved_tensors
        layer: SharedLayer = ctx.layer
        if layer.relu:
            grad = torch.ops.aten.threshold_backward(grad, y, 0)
        layer.steps.append((x, grad))
        token = grad.new_zeros(())
        if not ctx.needs_input_grad[0]:
            return None, token, None
        back = torch.bmm(grad, layer.weight.transpose(1, 2))
        return back if x.ndim == 3 else back.sum(0), token, None


class _Gather(torch.autograd.Function):
    """Stands between a parameter and the steps that use it."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bias: Tensor, steps: list[Step]) -> Tensor:
        ctx.steps, ctx.weight = steps, weight
        return weight.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, _: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None]:
        if not ctx.steps:
            return None, None, None
        parameter: Tensor = ctx.weight
        heads, dtype = len(parameter), parameter.dtype
        inputs = torch.cat([x if x.ndim == 3 else x.expand(heads, -1, -1) for x, _ in ctx.steps], 1)
        grads = torch.cat([grad for _, grad in ctx.steps], 1)
        ctx.steps.clear()
        out = empty_gradient(parameter) if inputs.dtype == dtype else None
        weight = torch.bmm(inputs.transpose(1, 2), grads, out=out)
        return weight.to(dtype), grads.sum(1, dtype=dtype), None
