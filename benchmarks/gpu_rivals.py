"""Heads on a GPU in plain PyTorch, at its best: the rivals of gpu_races.py.

All maps lie on the device, as float32 with TF32 products or as bfloat16 under autocast. The loss is compiled
in each mode of torch.compile, and the fastest counts; the update is torch's fused one. Nothing waits for the
GPU but the end of an epoch.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._dynamo import config as dynamo
from torch.nn import functional as F

from benchmarks.attention_rivals import Plain, cut
from benchmarks.head_rivals import network
from pipeline.training.optimizer import CLIP
from pipeline.training.schedule import schedule

TRACED = "aot_eager"
"""Traces as every mode does, and generates no code: to see on a CPU that it can be traced."""
MODES = ("eager", "default", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")


class TenCropNet(nn.Module):
    """FullNet on 256×5×5 maps: one product over stacked crops, whose scores are averaged."""

    def __init__(self, seed: int, hidden: int) -> None:
        super().__init__()
        self.net = network(seed, hidden)
        cells = torch.arange(25).view(5, 5)
        boxes = [
            cells[top : top + 3, left : left + 3] for top, left in ((0, 0), (0, 2), (2, 0), (2, 2), (1, 1))
        ]
        crops = torch.stack([*boxes, *(box.flip(1) for box in boxes)]).flatten(1)
        self.register_buffer("crops", crops)  # (10, 9), of cells
        self.crops: Tensor

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Maps (B, 256, 5, 5), labels (B,) → the mean loss."""
        crops = maps.flatten(2)[:, :, self.crops].transpose(1, 2).flatten(2)  # (B, 10, 2304)
        return F.cross_entropy(self.net(crops).mean(1).float(), labels)


class AttentionNet(nn.Module):
    """Recurrent attention, crops as rows of one batch."""

    def __init__(self, plain: Plain, crops: str, side: int) -> None:
        super().__init__()
        self.plain, self.crops, self.side = plain, crops, side

    def forward(self, maps: Tensor, labels: Tensor) -> Tensor:
        """Maps (B, C, H, W), labels (B, K) → the mean loss."""
        return self.plain.loss([torch.cat(cut(maps, self.crops, self.side))], labels)


class Script:
    """Trains a network on maps (N, C, H, W) that lie on the device."""

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        maps: Tensor,
        labels: Tensor,
        batch: int,
        mode: str,
    ) -> None:
        self.net, self.optimizer, self.maps, self.labels, self.batch = net, optimizer, maps, labels, batch
        how: dict[str, Any] = {"backend": mode} if mode == TRACED else {"mode": mode}
        # every mode and network compiles the same code, and beyond its limit dynamo runs it uncompiled
        dynamo.recompile_limit, dynamo.fail_on_recompile_limit_hit = 64, True
        self.loss = net if mode == "eager" else torch.compile(net, dynamic=False, **how)

    def train(self, weights: dict[str, Tensor], epochs: int) -> list[float]:
        """Train from these weights; gives the mean loss of each epoch."""
        self.net.load_state_dict(weights)
        optimizer, images, device = self.optimizer(self.net), len(self.labels), self.labels.device
        steps, losses = -(-images // self.batch), []
        rates = [group["lr"] for group in optimizer.param_groups]
        for epoch in range(epochs):
            order = torch.from_numpy(np.random.default_rng((0, epoch)).permutation(images)).to(device)
            total = torch.zeros((), device=device)
            for step, rows in enumerate(order.split(self.batch), epoch * steps):
                with torch.autocast(device.type, torch.bfloat16, self.maps.dtype == torch.bfloat16):
                    # the last batch of an epoch, of another size, would be compiled once more
                    losses_of = self.loss if len(rows) == self.batch else self.net
                    loss = losses_of(self.maps[rows], self.labels[rows])
                loss.backward()
                total += loss.detach() * len(rows)
                nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * schedule(step, epochs * steps)
                optimizer.step()
                optimizer.zero_grad()
            losses.append(float(total) / images)
        return losses


def fastest(make: Callable[[str], Script], modes: tuple[str, ...]) -> tuple[str, Script]:
    """The mode whose epoch takes least of two, after two to compile and record.

    A mode that fails is left out, and said.
    """
    seconds: dict[str, tuple[float, Script]] = {}
    for mode in modes:
        script = make(mode)
        start = {name: tensor.clone() for name, tensor in script.net.state_dict().items()}
        try:
            script.train(start, 2)
            turns = [timed(lambda: script.train(start, 1), script.maps.device)[0] for _ in range(2)]  # noqa: B023
            seconds[mode] = min(turns), script
        except RuntimeError as error:  # torch.compile's errors are such
            print(f"torch.compile, {mode}: {str(error).strip().splitlines()[0]}", file=sys.stderr)
        script.net.load_state_dict(start)
    best = min(seconds, key=lambda mode: seconds[mode][0])
    return best, seconds[best][1]


def timed(call: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds until a device has done all that a call asks for, and what the call gives."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    result = call()
    wait()
    return time.perf_counter() - started, result
