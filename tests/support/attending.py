"""Heads of recurrent attention in float64 with random weights, and labels of three images."""

from typing import Any

import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.recurrent_attention import RecurrentAttention

CLASSES = 3
LABELS = torch.tensor([[1, 0, 1], [0, 0, 0], [-1, 1, 0]], dtype=torch.int8)


def stack(
    shape: tuple[int, int, int], seeds: tuple[int, ...] = (0, 1), **settings: Any
) -> RecurrentAttention:
    """In float64, with regions that differ from image to image and from step to step."""
    config = TrainConfig(head="recurrent-attention", **{"hidden": (6,), **settings})
    head = RecurrentAttention(HeadSpec(config, shape, CLASSES, seeds, multi_label=True)).double()
    with torch.no_grad():
        for m, seed in enumerate(seeds):
            draw = torch.Generator().manual_seed(seed)
            for name, parameter in head.named_parameters():
                noise = torch.randn(parameter[m].shape, generator=draw, dtype=torch.float64)
                if name != "look_weight":
                    parameter[m] += 0.4 * noise
    return head


def weights_of(head: RecurrentAttention, m: int) -> dict[str, Tensor]:
    """Head m's weights as they lie, but the first layer's rows in the order C, p, q."""
    found = {name: p[m].detach() for name, p in head.named_parameters()}
    return {**found, "look_weight": channels_first(found["look_weight"], head)}


def channels_first(weight: Tensor, head: RecurrentAttention) -> Tensor:
    """Rows of the first layer's weight, or of its gradient, in the order C, p, q."""
    p, q = head.points
    return weight.view(p * q, -1, weight.shape[-1]).transpose(0, 1).reshape(weight.shape)
