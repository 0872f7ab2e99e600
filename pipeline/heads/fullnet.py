"""FullNet: each crop of the map goes through a fully connected network; the crops' scores are averaged.

The textbook loop over ten crops is a forward pass each. Three identities make it cheap, and none changes a
score or a gradient:

1. a crop and its mirror share two half-size products (`pipeline.heads.folding`);
2. all crops and all heads of the stack are rows and columns of one matrix product;
3. the output layer is linear, so it is applied once, to the mean of the crops' hidden activations.

Shapes: M heads, B images, S boxes, D = C·h·w cells of a crop, widths h. A stack of activations is
(F, B, S, M·h), F = 2 when boxes stand for a crop and its mirror, else 1.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline import kernels
from pipeline.heads.base import Head, HeadSpec
from pipeline.heads.crop_sum import CropSum
from pipeline.heads.folding import even_size, fold_crops, pair_up, unfold
from pipeline.heads.plain import Cut, PlainFullNet, layer
from pipeline.heads.products import linear


class FullNet(Head):
    """Hidden layers of `settings.hidden` units, ReLU and dropout after each, then one linear layer."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__(spec)
        settings, (channels, *cells), crops = spec.settings, spec.map_shape, spec.crops()
        self.crops, self.map_cells, box = crops, (cells[0], cells[1]), crops[0].box
        self.views = 1 + max(crop.view for crop in crops)
        self.folding = pair_up(crops)
        self.crop_shape = (channels, box.height, box.width)
        self.dropout_rate, self.recordable = settings.dropout, not settings.dropout
        widths = (channels * box.height * box.width, *settings.hidden)
        self.depth = len(settings.hidden)
        for i, (fan_in, fan_out) in enumerate(zip(widths, settings.hidden, strict=False)):
            shape = (fan_in, fan_out) if i else (fan_out, fan_in)  # the first in the mirror basis, row by row
            setattr(self, f"weight{i}", self.new_weight(*shape, std=(2 / fan_in) ** 0.5))
            setattr(self, f"bias{i}", self.new_bias(fan_out))
        self.output_weight = self.new_weight(widths[-1], spec.classes, std=0.0)  # all scores start equal
        self.output_bias = self.new_bias(spec.classes)
        self.register_buffer("mask", self.folding.mask(), persistent=False)
        self.mask: Tensor | None

    def prepare(self, maps_BVCHW: Tensor) -> Tensor:
        """(B, S, D) boxes in the mirror basis."""
        return fold_crops(maps_BVCHW, self.folding)

    def forward(self, inputs: Tensor) -> Tensor:
        heads, dtype = len(self.seeds), inputs.dtype
        even = even_size(*self.crop_shape) if self.folding.pairs else 0
        weight, bias = self.get_parameter("weight0"), self.get_parameter("bias0")
        deeper = self.depth > 1 or (self.training and self.dropout_rate)
        if not deeper and kernels.usable(inputs, weight):
            total = CropSum.apply(inputs, weight, bias, even, self.folding)
        else:
            stack = FirstLayer.apply(inputs, weight, bias, even)
            if deeper:
                stack = self._deeper(stack)
            if self.mask is not None:
                stack = stack * self.mask.to(dtype)
            total = stack.sum(2).sum(0)  # (B, M·h); ten times as fast as sum((0, 2))
        total_MBh = total.unflatten(-1, (heads, -1)).transpose(0, 1).to(self.output_weight.dtype)
        # The mean's division is done on the small factor of the product.
        return torch.baddbmm(self.output_bias[:, None], total_MBh, self.output_weight / self.folding.crops)

    def _deeper(self, stack: Tensor) -> Tensor:
        """Apply dropout and the hidden layers after the first: (F, B, S, M·h) → (F, B, S, M·h')."""
        shape = stack.shape[:3]
        hidden = stack.view(shape.numel(), len(self.seeds), -1).transpose(0, 1)  # (M, F·B·S, h)
        hidden = self.dropout(hidden, self.dropout_rate)
        for i in range(1, self.depth):
            weight, bias = self.get_parameter(f"weight{i}"), self.get_parameter(f"bias{i}")
            hidden = torch.baddbmm(bias[:, None].to(hidden.dtype), hidden, weight.to(hidden.dtype)).relu()
            hidden = self.dropout(hidden, self.dropout_rate)
        return hidden.transpose(0, 1).reshape(*shape, -1)

    def plain(self) -> nn.Module:
        first = self.plain_first_weight()[0].flatten(1).t()
        weights = [first, *(self.get_parameter(f"weight{i}")[0] for i in range(1, self.depth))]
        biases = [self.get_parameter(f"bias{i}")[0] for i in range(self.depth)]
        pairs = [*zip(weights, biases, strict=True), (self.output_weight[0], self.output_bias[0])]
        return PlainFullNet(Cut(self.crops, self.map_cells), [layer(*pair) for pair in pairs])

    def plain_first_weight(self) -> Tensor:
        """The first layer's weight in the plain basis: (M, h, C, crop height, crop width)."""
        weight = self.get_parameter("weight0").detach()
        return unfold(weight.flatten(0, 1), *self.crop_shape).unflatten(0, weight.shape[:2])


class FirstLayer(torch.autograd.Function):
    """ReLU(crop · W + b) for every crop, mirrored or not, and every head. No gradient for the inputs.

    inputs (B, S, D), weight (M, h, D), bias (M, h) → (F, B, S, M·h). `even` is the length of the even part of
    D when boxes stand for a crop and its mirror (F = 2), and 0 when each stands for itself (F = 1).
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, even: int) -> Tensor:
        rows, flat = inputs.flatten(0, 1), weight.flatten(0, 1).to(inputs.dtype)  # (B·S, D), (M·h, D)
        offset = bias.flatten().to(inputs.dtype)
        if even:
            stack = rows.new_empty((2, len(rows), len(flat)))
            torch.addmm(offset, rows[:, :even], flat[:, :even].t(), out=stack[0])
            torch.mm(rows[:, even:], flat[:, even:].t(), out=stack[1])
            _sum_and_difference(*stack)
        else:
            stack = linear(rows, flat, offset)[None]
        stack = stack.relu_().view(len(stack), *inputs.shape[:2], -1)
        ctx.save_for_backward(inputs, stack)
        ctx.even, ctx.shape, ctx.dtype = even, weight.shape, weight.dtype
        return stack

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[None, Tensor, Tensor, None]:
        inputs, stack = ctx.saved_tensors
        rows, even, end = inputs.flatten(0, 1), ctx.even, ctx.even or None
        # The activations aren't needed any more: their memory takes the gradient.
        torch.ops.aten.threshold_backward(grads[0], stack, 0, grad_input=stack)
        grad = stack.flatten(1, 2)  # (F, B·S, M·h)
        weight = rows.new_empty((grad.shape[-1], rows.shape[-1]))
        if even:
            _sum_and_difference(*grad)
            torch.mm(grad[1].t(), rows[:, even:], out=weight[:, even:])
        torch.mm(grad[0].t(), rows[:, :end], out=weight[:, :end])
        bias = grad[0].sum(0, dtype=ctx.dtype).view(ctx.shape[:2])
        return None, weight.view(ctx.shape).to(ctx.dtype), bias, None


def _sum_and_difference(p: Tensor, q: Tensor) -> None:
    """Replace p, q by p + q, p - q in place."""
    p.add_(q)
    torch.sub(p, q, alpha=2, out=q)
