"""Recurrent attention without the engine, as attention.py and gpu_races.py compare it: nn.Linear,
nn.LSTMCell, affine_grid and grid_sample, step by step.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.functional import ten_crop

from pipeline.heads.losses import ANCHORS
from pipeline.heads.recurrent_attention import RecurrentAttention
from pipeline.training.optimizer import CLIP

CLASSES, LR, DECAY = 20, 1e-4, 5e-4


class Plain(nn.Module):
    """As one writes it down from the paper. Starts from the weights of a head of one whole map per region."""

    def __init__(self, head: RecurrentAttention) -> None:
        super().__init__()
        width, (p, q) = head.state_bias.shape[1], head.points
        self.steps, self.points, self.width = head.steps, head.points, width
        size = head.look_weight.shape[1]
        self.look, self.state = nn.Linear(size, width), nn.Linear(width, width)
        self.score, self.place, self.cell = (
            nn.Linear(width, CLASSES),
            nn.Linear(width, 4),
            nn.LSTMCell(width, width),
        )
        self.register_buffer("whole", torch.tensor([[1.0, 1.0, 0.0, 0.0]]))
        self.register_buffer("anchors", torch.tensor(ANCHORS[: self.steps]))
        self.whole: Tensor
        self.anchors: Tensor
        rows = head.look_weight[0].view(p * q, -1, width).transpose(0, 1)
        with torch.no_grad():
            self.look.weight.copy_(rows.flatten(0, 1).t())
            for name in ("state", "score", "place"):
                getattr(self, name).weight.copy_(getattr(head, f"{name}_weight")[0].t())
            for name in ("look", "state", "score", "place"):
                getattr(self, name).bias.copy_(getattr(head, f"{name}_bias")[0])
            self.cell.weight_ih.copy_(head.lstm_weight[0, :width].t())
            self.cell.weight_hh.copy_(head.lstm_weight[0, width:].t())
            self.cell.bias_ih.copy_(head.lstm_bias[0])
            self.cell.bias_hh.zero_()

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        """Highest scores (B, K), and the loss of the regions (B,)."""
        batch, channels = maps.shape[:2]
        zeros = torch.zeros(batch, self.width, device=maps.device)
        state, theta = (zeros, zeros), self.whole.expand(batch, 4)
        scores, constraints = [], zeros[:, 0]
        for k in range(self.steps + 1):
            zero = torch.zeros_like(theta[:, 0])
            matrix = torch.stack([theta[:, 0], zero, theta[:, 2], zero, theta[:, 1], theta[:, 3]], 1)
            grid = F.affine_grid(
                matrix.view(-1, 2, 3), [batch, channels, *self.points], align_corners=True
            ).to(maps.dtype)
            region = F.grid_sample(maps, grid, align_corners=True)
            state = self.cell(self.look(region.flatten(1)).relu(), state)
            z = self.state(state[0]).relu()
            if k > 0:
                scores.append(self.score(z))
            if k < self.steps:
                theta = self.place(z).float()
                anchor = theta[:, 2:] - self.anchors[k]
                constraints = constraints + 0.01 * 0.5 * anchor.pow(2).sum(1)
                constraints = constraints + (theta[:, :2].abs() - 0.5).clamp(min=0).pow(2).sum(1)
                constraints = constraints + 0.1 * (0.1 - theta[:, :2]).clamp(min=0).sum(1)
        return torch.stack(scores).amax(0), constraints

    def loss(self, batches: list[Tensor], labels: Tensor) -> Tensor:
        """The loss of labels (B, K) given their crops, each a tensor or all of them rows of one."""
        found = [self(maps) for maps in batches]
        scores, constraints = (torch.stack(part) for part in zip(*found, strict=True))
        scores = scores.float().view(-1, *labels.shape).mean(0)
        losses = F.binary_cross_entropy_with_logits(scores, labels, reduction="none").sum(1)
        return (losses + 0.1 * constraints.view(-1, len(labels)).mean(0)).mean()


class PlainStep:
    """A step on the batch that it is made for."""

    def __init__(self, net: Plain, batches: list[Tensor], labels: Tensor) -> None:
        self.net, self.batches, self.labels = net, batches, labels.float()
        self.optimizer = adamw(net)

    def loss(self) -> Tensor:
        return self.net.loss(self.batches, self.labels)

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


def adamw(net: nn.Module) -> torch.optim.Optimizer:
    """Torch's fused one; biases don't decay."""
    groups = [
        {"params": [p for p in net.parameters() if p.ndim > 1], "weight_decay": DECAY},
        {"params": [p for p in net.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=LR, fused=True)


def cut(maps: Tensor, crops: str, side: int) -> tuple[Tensor, ...]:
    """Maps (B, C, H, W) as they are, or their ten crops."""
    return ten_crop(maps, [side, side]) if crops == "ten" else (maps,)
