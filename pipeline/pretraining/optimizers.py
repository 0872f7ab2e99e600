"""What changes the weights in pretraining: Nesterov SGD for all, or Muon for the convolutions beside it.

Muon replaces the change of a matrix by the nearest matrix whose directions all count the same; fewer epochs
are needed (LOG.md). torch's takes matrices only: here a matrix is a convolution's own memory, a row for each
output channel.

Source: Keller Jordan et al., "Muon: An optimizer for hidden layers in neural networks"
(https://kellerjordan.github.io/posts/muon).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config import PretrainConfig

MOMENTUM = 0.9
BESIDE_MUON = 8
"""How many times Muon's peak rate that of biases and the last matrix is: it multiplies a gradient, which is
small, and Muon's a matrix whose directions all have about length one."""


class Optimizers:
    """Whatever `config.optimizer` names, for all weights that are learned, by their names.

    momentum: the running mean of each weight's gradients, the state that a checkpoint has to hold.
    """

    def __init__(
        self, learned: Mapping[str, nn.Parameter], config: PretrainConfig, fused: bool | None
    ) -> None:
        self.learned, self.peak_lr = learned, config.peak_lr
        self.momentum = {name: torch.zeros_like(weight) for name, weight in learned.items()}
        self.convolutions = {n: w for n, w in learned.items() if w.ndim == 4 and config.optimizer == "muon"}
        rest = [w for n, w in learned.items() if n not in self.convolutions]
        # matrices decay, biases don't; beside Muon nothing does
        decay = 0.0 if self.convolutions else config.decay
        groups: list[dict[str, Any]] = [
            {"params": [w for w in rest if w.ndim > 1], "weight_decay": decay},
            {"params": [w for w in rest if w.ndim == 1], "weight_decay": 0.0},
        ]
        sgd = torch.optim.SGD(groups, lr=self.peak_lr, momentum=MOMENTUM, nesterov=True, fused=fused)
        self.rates: dict[torch.optim.Optimizer, float] = {sgd: BESIDE_MUON if self.convolutions else 1}
        for name, weight in learned.items():
            if name not in self.convolutions:
                sgd.state[weight]["momentum_buffer"] = self.momentum[name]
        if self.convolutions:
            self.matrices = {name: nn.Parameter(_as_matrix(w.data)) for name, w in self.convolutions.items()}
            muon = torch.optim.Muon(
                self.matrices.values(), lr=self.peak_lr, weight_decay=config.decay, momentum=MOMENTUM
            )
            for name, matrix in self.matrices.items():
                muon.state[matrix]["momentum_buffer"] = _as_matrix(self.momentum[name])
            self.rates[muon] = 1

    def step(self, scaler: torch.GradScaler, rate: float) -> None:
        """Change the weights by their gradients at this share of the peak rate, and forget the gradients."""
        for name, convolution in self.convolutions.items():
            if convolution.grad is not None:
                lying_alike = convolution.grad.contiguous(memory_format=_format(convolution))
                self.matrices[name].grad = _as_matrix(lying_alike)
        for optimizer, times in self.rates.items():
            for group in optimizer.param_groups:
                group["lr"] = self.peak_lr * times * rate
            scaler.step(optimizer)
        scaler.update()
        for weight in self.learned.values():
            weight.grad = None


def _as_matrix(weight: Tensor) -> Tensor:
    """The same memory as (O, 9·I) in place of (O, I, 3, 3), columns in the order in which they lie."""
    in_memory = weight if _format(weight) == torch.contiguous_format else weight.permute(0, 2, 3, 1)
    return in_memory.view(len(weight), -1)


def _format(weight: Tensor) -> torch.memory_format:
    return torch.contiguous_format if weight.is_contiguous() else torch.channels_last
