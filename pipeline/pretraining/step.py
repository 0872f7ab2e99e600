"""One step of pretraining: forward in the precision that the device multiplies fast, backward, update.

Nothing in it waits for the device, but Muon in float16, to know whether a gradient has overflowed.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import PretrainConfig
from pipeline.device import has_fast_bfloat16
from pipeline.pretraining.optimizers import Optimizers
from pipeline.progress import say

Losses = Callable[[Tensor, Tensor], Tensor]
"""Images (B, 3, S, S) and labels (B,) → their mean loss."""


class Step:
    """One batch: forward, backward and the update. Gives the batch's mean loss."""

    def __init__(self, network: nn.Module, config: PretrainConfig, device: torch.device) -> None:
        self.network, self.config, self.device = network, config, device
        self.dtype = pick_precision(config.precision, device)
        # half of float16's gradients would be zero if the loss weren't scaled up
        self.scaler = torch.GradScaler(device.type, enabled=self.dtype == torch.float16)
        # others would wait to know whether a gradient has overflowed; None lets torch choose
        fused = True if self.scaler.is_enabled() else None
        learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.optimizers = Optimizers(learned, config, fused)
        self.momentum = self.optimizers.momentum
        self._fast = compiled(self._loss, device) if config.compile else self._loss

    def __call__(self, images: Tensor, labels: Tensor, rate: float) -> Tensor:
        """Learn from a batch of uint8 images (B, 3, S, S) at this share of the peak learning rate."""
        # the last batch of an epoch, of another size, would be compiled once more
        loss = (self._fast if len(labels) == self.config.batch else self._loss)(images, labels)
        self.scaler.scale(loss).backward()
        self.optimizers.step(self.scaler, rate)
        return loss.detach()

    def facts(self) -> dict[str, Any]:
        """What a checkpoint has to hold besides tensors."""
        return {"scaler": self.scaler.state_dict()} if self.scaler.is_enabled() else {}

    def resume(self, facts: Mapping[str, Any]) -> None:
        """Go back to what `facts` gave. Raises: KeyError, TypeError, ValueError when it did not."""
        if self.scaler.is_enabled():
            known = self.scaler.state_dict()
            self.scaler.load_state_dict({n: type(was)(facts["scaler"][n]) for n, was in known.items()})

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        is_half = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype) if is_half else contextlib.nullcontext():
            logits = self.network(images)
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """What --precision means on this device; auto is the type of half precision that it multiplies fast."""
    if name != "auto":
        return getattr(torch, name)
    if has_fast_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def compiled(losses: Losses, device: torch.device) -> Losses:
    """The function compiled for the device, or as it is where nothing compiles, which a line says."""
    try:
        torch.compile(_trial)(torch.ones(2, device=device))
    except (RuntimeError, OSError, ImportError) as error:  # of torch's compiler, and of those that it calls
        reason = next(iter(str(error).split("\n")))
        say(f"--compile: nothing compiles for {device.type} here ({reason}); training without")
        return losses
    return torch.compile(losses, dynamic=False)


def _trial(x: Tensor) -> Tensor:
    return (x * 2 + 1).sin()
