"""All steps of recurrent attention as one function of autograd. Its parts are in `pipeline.heads.trace`.

What all regions show takes more memory than all else of a step. On a CPU, where large memory that is freed
goes back to the system and comes back as fresh pages, a pass leaves it to the next one.

Shapes: M heads, B images, R crops of all of them, S regions, T = S + 1 steps, h width, D = p·q·C numbers of a
region, L rows of C channels of an image.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.heads.trace import Back, Layers, Mask, Trace
from pipeline.heads.transformer import Transformer


class Recurrence:
    """Looks at one region after another."""

    def __init__(self, transformer: Transformer, fixed: bool) -> None:
        """`fixed`: whether regions stay where they start."""
        self.transformer, self.fixed = transformer, fixed
        self.spare: Tensor | None = None
        self.passes = 0

    def __call__(
        self, rows: Tensor, first: Tensor, layers: Layers, mask: Mask | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give the regions (M, S, R, 4) that were looked at and the states (M, S, R, h) after them.

        Args:
            rows: (B, L, C), the cells of the maps first. No gradient.
            first: (R, p·q), which of them, as (B·L, C), each crop shows as a whole.
            layers: with gradients.
            mask: for dropout.
        """
        slots = layers.starts.shape[1] + 1 if torch.is_grad_enabled() else 1
        return _Looks.apply(self, slots, mask, rows, first, *layers)

    def memory(self, like: Tensor, *shape: int) -> Tensor:
        """Memory for what regions show: the spare one if it fits, for this pass alone."""
        spare, self.spare, self.passes = self.spare, None, self.passes + 1
        if spare is None or (spare.shape, spare.dtype, spare.device) != (shape, like.dtype, like.device):
            return like.new_empty(shape)
        return spare


class _Looks(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        of: Recurrence,
        slots: int,
        mask: Mask | None,
        rows: Tensor,
        first: Tensor,
        *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:
        layers = Layers(*parameters)
        heads, regions, _ = layers.starts.shape
        seen = of.memory(rows, heads, slots, len(first), layers.look_weight.shape[1])
        trace = Trace(of.transformer, rows, seen, layers)
        trace.first(first)
        thetas: list[Tensor] = []  # not parts of what is returned, which would keep this pass alive for ever
        for k in range(regions):
            z, start = trace.step(k, mask), layers.starts[:, k, None].expand(-1, len(first), -1)
            thetas.append(start if of.fixed else torch.baddbmm(start, z, layers.place_weight))
            trace.look(k + 1, thetas[-1])
        trace.step(regions, mask)
        ctx.of, ctx.trace, ctx.left_at = of, trace, None
        return torch.stack(thetas, 1), trace.states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, thetas: Tensor, states: Tensor
    ) -> tuple[Tensor | None, ...]:
        of, trace = ctx.of, ctx.trace
        if ctx.left_at not in (None, of.passes):
            raise RuntimeError("a second backward pass: another pass has taken the memory of the first")
        back, thetas, regions = Back(trace), thetas.clone(), states.shape[1]
        for k in range(regions, -1, -1):
            z = states[:, k - 1] if k else torch.zeros_like(trace.memory)
            if k < regions and not of.fixed:
                z = torch.baddbmm(z, thetas[:, k], trace.layers.place_weight.transpose(1, 2))
            back.step(k, z)
            if k and not of.fixed:
                thetas[:, k - 1] += back.look(k)
        found = back.layers(thetas)
        if of.fixed:
            found = found._replace(place_weight=None, starts=None)
        if not trace.seen.is_cuda:
            of.spare, ctx.left_at = trace.seen, of.passes
        return None, None, None, None, None, *found
