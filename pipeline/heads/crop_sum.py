"""FullNet's first layer and the sum over crops in one, by custom kernels on a GPU.

The plain way writes out each crop's activations and reads them five times, forward and backward. Here the two
products stay as they are, and the activations are computed from them again wherever they are needed.

Shapes: M heads, B images, S boxes, D cells of a crop, h hidden units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.heads.folding import Folding


class CropSum(torch.autograd.Function):
    """Σ over crops of ReLU(crop · W + b), for every head. No gradient for the inputs.

    inputs (B, S, D), weight (M, h, D), bias (M, h) → (B, M·h) float32. `even` is the length of the even part
    of D when there are crops with mirrors in `folding`, else 0.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, even: int, folding: Folding
    ) -> Tensor:
        from pipeline.kernels.crops import sum_crops

        rows, flat = inputs.flatten(0, 1), weight.flatten(0, 1).to(inputs.dtype)  # (B·S, D), (M·h, D)
        offset = bias.flatten()
        if even:
            p, q = rows[:, :even] @ flat[:, :even].t(), rows[:, even:] @ flat[:, even:].t()
        else:
            p, q = rows @ flat.t(), None
        ctx.save_for_backward(inputs, p, q, offset)
        ctx.even, ctx.pairs, ctx.shape, ctx.dtype = even, len(folding.pairs), weight.shape, weight.dtype
        return sum_crops(p, q, offset, folding.boxes, len(folding.pairs))

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[None, Tensor, Tensor, None, None]:
        from pipeline.kernels.crops import spread_gradient

        inputs, p, q, offset = ctx.saved_tensors
        rows, even = inputs.flatten(0, 1), ctx.even
        # The products aren't needed any more: their memory takes the gradient.
        bias = spread_gradient(p, q, offset, grads[0], inputs.shape[1], ctx.pairs)
        weight = rows.new_empty((p.shape[1], rows.shape[1]), dtype=ctx.dtype)
        _product(p.t(), rows[:, : even or None], weight[:, : even or None])
        if even:
            _product(q.t(), rows[:, even:], weight[:, even:])
        return None, weight.view(ctx.shape), bias.view(ctx.shape[:2]), None, None


def _product(a: Tensor, b: Tensor, out: Tensor) -> None:
    """Write a @ b into `out`. A GPU sums short numbers in float32 anyway: nothing is rounded before `out`."""
    if a.dtype == out.dtype:
        torch.mm(a, b, out=out)
    elif a.is_cuda:
        torch.mm(a, b, out_dtype=out.dtype, out=out)
    else:
        out.copy_(a @ b)
