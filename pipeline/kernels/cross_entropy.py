"""Cross-entropy of a stack of heads, averaged over the batch, with its gradient in the same pass.

Legend: M heads, B images, K classes.
"""

# Kernels are written in Triton's language, whose types are not Python's.
# pyright: reportArgumentType=false, reportCallIssue=false

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

MOST_CLASSES = 1024
TILE = 1024
"""Logits per program: few, so that even one head has many programs."""


@triton.jit(do_not_specialize=["images", "classes", "parts"])
def _cross_entropy(
    logits, labels, losses, grad, images, classes, parts, IMAGES: tl.constexpr, CLASSES: tl.constexpr
):
    part, head = tl.program_id(0), tl.program_id(1).to(tl.int64)  # more parts than the second may have
    image = part * IMAGES + tl.arange(0, IMAGES)
    k = tl.arange(0, CLASSES)[None, :]
    here = image < images
    inside = here[:, None] & (k < classes)
    at = (head * images + image)[:, None] * classes + k
    x = tl.load(logits + at, inside, float("-inf")).to(tl.float32)
    x = tl.where(here[:, None], x, 0.0)
    label = tl.load(labels + image, here, 0)[:, None]
    x -= tl.max(x, 1)[:, None]
    e = tl.exp(x)
    s = tl.sum(e, 1)
    loss = tl.log(s) - tl.sum(tl.where(k == label, x, 0.0), 1)
    tl.store(grad + at, (e / s[:, None] - tl.where(k == label, 1.0, 0.0)) / images, inside)
    tl.store(losses + head * parts + part, tl.sum(tl.where(here, loss, 0.0)) / images)


class MeanCrossEntropy(torch.autograd.Function):
    """logits (M, B, K), labels (B,) int64 → (M,) float32."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        heads, images, classes = logits.shape
        logits = logits.contiguous()
        width = triton.next_power_of_2(classes)
        at_once = max(1, TILE // width)
        parts = triton.cdiv(images, at_once)
        losses, grad = logits.new_empty((heads, parts), dtype=torch.float32), torch.empty_like(logits)
        _cross_entropy[(parts, heads)](logits, labels, losses, grad, images, classes, parts, at_once, width)
        ctx.save_for_backward(grad)
        return losses.sum(1)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor, None]:
        (grad,) = ctx.saved_tensors
        return grad * grads[0].to(grad.dtype)[:, None, None], None
