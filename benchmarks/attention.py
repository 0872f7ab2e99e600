"""A training step of recurrent attention on maps of vgg16 at 448 px, against the same in plain PyTorch.

    python -m benchmarks.attention [--quick]

    ours       the head of train_head.py, on inputs that are prepared once
    plain      nn.Linear, nn.LSTMCell, affine_grid and grid_sample, step by step; ten crops in a loop
    stacked    the same, ten crops as rows of one batch

A step is the forward and backward pass of a batch of 16 and an update by AdamW, torch's fused one on all
sides. All start from the same weights; their losses and gradients are compared first. Sides take turns and
the best of some steps counts.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.alone import main
from benchmarks.attention_rivals import CLASSES, DECAY, LR, Plain, PlainStep, cut
from benchmarks.head_epoch import clocked
from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.recurrent_attention import RecurrentAttention
from pipeline.training.optimizer import StackedAdam

MAP, BATCH, WIDTH = (512, 14, 14), 16, 512
TOLERANCE = 1e-3  # of the longest gradient


def run(quick: bool) -> list[dict[str, Any]]:
    """Rows of name, ours, theirs, ratio, target, unit."""
    width, repeats = (32, 2) if quick else (WIDTH, 6)
    rows = []
    for crops, sides in {"full": ("plain",), "ten": ("plain", "stacked")}.items():
        best = race(crops, sides, width, repeats)
        for side in sides:
            against = {"plain": "plain PyTorch", "stacked": "plain PyTorch, crops as rows"}[side]
            rows.append(
                {
                    "name": f"step of recurrent attention (width {width}, --crops {crops}) against {against}",
                    "ours": best["ours"],
                    "theirs": best[side],
                    "ratio": best[side] / best["ours"],
                    "target": 1.6 if side == "stacked" else 2.0,
                    "unit": "s",
                }
            )
    return rows


def race(crops: str, sides: tuple[str, ...], width: int, repeats: int) -> dict[str, float]:
    """Each side's best seconds per step."""
    config = TrainConfig(head="recurrent-attention", hidden=(width,), crops=crops, region_start="whole")  # type: ignore[arg-type]
    head = RecurrentAttention(HeadSpec(config, MAP, CLASSES, (0,), multi_label=True))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():  # regions that differ
        head.place_weight.normal_(std=0.3 * width**-0.5, generator=draw)
    maps = torch.randn(BATCH, 1, *MAP, generator=draw)
    labels = (torch.rand(BATCH, CLASSES, generator=draw) < 0.1).to(torch.int8)
    crop_rows = cut(maps[:, 0], crops, head.crops[0].box.height)
    calls: dict[str, Callable[[], Any]] = {"ours": Ours(head, head.prepare(maps), labels)}
    for side in sides:
        batches = [torch.cat(crop_rows)] if side == "stacked" else list(crop_rows)
        calls[side] = PlainStep(Plain(head), batches, labels)
    check(calls)
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            best[name] = min(best[name], clocked(call))
    return best


class Ours:
    def __init__(self, head: RecurrentAttention, inputs: Tensor, labels: Tensor) -> None:
        self.head, self.inputs, self.labels = head, inputs, labels
        self.optimizer = StackedAdam(dict(head.named_parameters()), [LR], [DECAY])

    def loss(self) -> Tensor:
        return self.head.losses(self.inputs, self.labels).sum()

    def gradients(self) -> dict[str, Tensor]:
        p, q = self.head.points
        found = {name: x.grad[0] for name, x in self.head.named_parameters() if x.grad is not None}
        rows = found["look_weight"].view(p * q, MAP[0], -1).transpose(0, 1)
        return {**found, "look_weight": rows.flatten(0, 1)}

    def __call__(self) -> None:
        self.loss().backward()
        self.optimizer.step(1.0)


def check(sides: dict[str, Any]) -> None:
    """All sides have the same loss and the same gradients."""
    losses, gradients = {}, {}
    for name, side in sides.items():
        loss = side.loss()
        loss.backward()
        losses[name], gradients[name] = loss.item(), side.gradients()
    ours = gradients["ours"]
    for name in sides:
        assert abs(losses[name] - losses["ours"]) < 1e-4 * losses["ours"], (
            f"{name} has another loss: {losses}"
        )
        for layer, gradient in gradients[name].items():
            far = float((gradient - ours[layer]).norm() / ours[layer].norm())
            assert far < TOLERANCE, f"{name} has another gradient of {layer}, off by {far:.2g} of its length"


if __name__ == "__main__":
    main(run)
