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
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import ten_crop

from benchmarks.alone import main
from benchmarks.head_epoch import clocked
from pipeline.config import TrainConfig
from pipeline.heads.base import HeadSpec
from pipeline.heads.losses import ANCHORS
from pipeline.heads.recurrent_attention import RecurrentAttention
from pipeline.training.optimizer import CLIP, StackedAdam

MAP, CLASSES, BATCH, WIDTH, LR, DECAY = (512, 14, 14), 20, 16, 512, 1e-4, 5e-4
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
                    "target": 2.0,
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
    cell = head.crops[0].box.height
    cut = ten_crop(maps[:, 0], [cell, cell]) if crops == "ten" else (maps[:, 0],)
    calls: dict[str, Callable[[], Any]] = {"ours": Ours(head, head.prepare(maps), labels)}
    for side in sides:
        batches = [torch.cat(cut)] if side == "stacked" else list(cut)
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
        rows = found["region_weight"].view(p, -1, q, found["region_weight"].shape[-1]).transpose(0, 1)
        return {**found, "region_weight": rows.flatten(0, 2)}

    def __call__(self) -> None:
        self.loss().backward()
        self.optimizer.step(1.0)


class Plain(nn.Module):
    """As one writes it down from the paper."""

    def __init__(self, head: RecurrentAttention) -> None:
        super().__init__()
        width = head.state_bias.shape[1]
        self.steps, self.points, self.width = head.steps, head.points, width
        size = MAP[0] * head.points[0] * head.points[1]
        self.region, self.state = nn.Linear(size, width), nn.Linear(width, width)
        self.score, self.place, self.cell = (
            nn.Linear(width, CLASSES),
            nn.Linear(width, 4),
            nn.LSTMCell(width, width),
        )
        rows = head.region_weight[0].view(head.points[0], -1, head.points[1], width).transpose(0, 1)
        with torch.no_grad():
            self.region.weight.copy_(rows.flatten(0, 2).t())
            for name in ("state", "score", "place"):
                getattr(self, name).weight.copy_(getattr(head, f"{name}_weight")[0].t())
            for name in ("region", "state", "score", "place"):
                getattr(self, name).bias.copy_(getattr(head, f"{name}_bias")[0])
            self.cell.weight_ih.copy_(head.lstm_weight[0, :width].t())
            self.cell.weight_hh.copy_(head.lstm_weight[0, width:].t())
            self.cell.bias_ih.copy_(head.lstm_bias[0])
            self.cell.bias_hh.zero_()

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Highest scores (B, K), and the loss of the regions (B,)."""
        batch = len(maps)
        state = (maps.new_zeros(batch, self.width), maps.new_zeros(batch, self.width))
        theta = maps.new_tensor([1, 1, 0, 0]).expand(batch, 4)
        scores, constraints = [], maps.new_zeros(batch)
        for k in range(self.steps + 1):
            zero = torch.zeros_like(theta[:, 0])
            matrix = torch.stack([theta[:, 0], zero, theta[:, 2], zero, theta[:, 1], theta[:, 3]], 1)
            size = [batch, MAP[0], *self.points]
            grid = F.affine_grid(matrix.view(-1, 2, 3), size, align_corners=True)
            region = F.grid_sample(maps, grid, align_corners=True)
            state = self.cell(self.region(region.flatten(1)).relu(), state)
            z = self.state(state[0]).relu()
            if k > 0:
                scores.append(self.score(z))
            if k < self.steps:
                theta = self.place(z)
                anchor = theta[:, 2:] - theta.new_tensor(ANCHORS[k])
                constraints = constraints + 0.01 * 0.5 * anchor.pow(2).sum(1)
                constraints = constraints + (theta[:, :2].abs() - 0.5).clamp(min=0).pow(2).sum(1)
                constraints = constraints + 0.1 * (0.1 - theta[:, :2]).clamp(min=0).sum(1)
        return torch.stack(scores).amax(0), constraints


class PlainStep:
    def __init__(self, net: Plain, batches: list[Tensor], labels: Tensor) -> None:
        self.net, self.batches, self.labels = net, batches, labels.float()
        groups = [
            {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=LR, fused=True)

    def loss(self) -> Tensor:
        found = [self.net(maps) for maps in self.batches]
        scores, constraints = (torch.stack(part) for part in zip(*found, strict=True))
        scores, constraints = scores.view(-1, BATCH, CLASSES).mean(0), constraints.view(-1, BATCH).mean(0)
        losses = F.binary_cross_entropy_with_logits(scores, self.labels, reduction="none").sum(1)
        return (losses + 0.1 * constraints).mean()

    def gradients(self) -> dict[str, Tensor]:
        grads = {name: p.grad for name, p in self.net.named_parameters() if p.grad is not None}
        found = {name.replace(".", "_"): g.t() for name, g in grads.items() if not name.startswith("cell")}
        lstm = torch.cat([grads["cell.weight_ih"].t(), grads["cell.weight_hh"].t()])
        return {**found, "lstm_weight": lstm, "lstm_bias": grads["cell.bias_ih"]}

    def __call__(self) -> None:
        self.loss().backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()


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
