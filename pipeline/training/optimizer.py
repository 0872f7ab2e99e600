"""Nesterov SGD and AdamW for a stack of heads, each with its own settings.

`torch.optim` has one learning rate per parameter group; here a parameter (M, ...) carries M heads. So heads
are grouped by their settings, and each group's part of a parameter is updated by torch's functions.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw
from torch.optim.sgd import sgd

from pipeline import kernels
from pipeline.heads.gradients import drop_gradient

MOMENTUM = 0.9
BETAS = (0.9, 0.999)
EPSILON = 1e-8
CLIP = 0.5
"""Longest gradient of a head. Without it the learning rate that many images need blows up on few; with it
anything from 0.03 to 0.12 is within a point or two of the best for 5 to 4,500 images per class."""


State = dict[str, dict[str, Tensor]]
"""What an optimizer remembers: kind → parameter → tensor (M, ...). A run goes on from it."""
Groups = dict[tuple[float, float], list[tuple[str, slice]]]
"""(learning rate, weight decay) → parameters, and the neighbouring heads of the stack, that have them."""


class Optimizer(Protocol):
    """Of all heads of a stack at once. Each head's gradient is clipped; biases, (M, h), don't decay."""

    parameters: dict[str, nn.Parameter]

    def step(self, factor: float | Tensor) -> None:
        """One update with `factor` times the learning rates; gradients are used up."""
        ...

    def state(self) -> State:
        """The tensors themselves, to be saved or copied into."""
        ...


class StackedSGD:
    """As `clip_grad_norm_` and `torch.optim.SGD(nesterov=True)` would train each head alone.

    The update is torch's fused one, a single pass over weights, gradients and momenta. It takes one learning
    rate and one decay, so the neighbours in the stack that share them are updated together. On a GPU it is
    two passes by `pipeline.kernels.sgd`.
    """

    def __init__(
        self, parameters: dict[str, nn.Parameter], lr: Sequence[float], weight_decay: Sequence[float]
    ) -> None:
        self.parameters = parameters
        self.momenta = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self._groups = _neighbours(parameters, lr, weight_decay)
        self._on_gpu = kernels.usable(*parameters.values())
        if self._on_gpu:
            device = next(iter(parameters.values())).device
            self._lr = torch.tensor(lr, dtype=torch.float32, device=device)
            decays = torch.tensor(weight_decay, dtype=torch.float32, device=device)
            self._decays = {
                n: decays if p.ndim > 2 else torch.zeros_like(decays) for n, p in parameters.items()
            }

    def state(self) -> State:
        return {"momentum": self.momenta}

    @torch.no_grad()
    def step(self, factor: float | Tensor) -> None:
        if self._on_gpu:
            self._step_by_kernels(factor)
        else:
            self._step_by_torch(factor)
        for parameter in self.parameters.values():
            drop_gradient(parameter)

    def _step_by_kernels(self, factor: float | Tensor) -> None:
        from pipeline.kernels.sgd import clip_and_step

        if not isinstance(factor, Tensor):
            factor = torch.full((), factor, device=self._lr.device)
        moved = [name for name, p in self.parameters.items() if p.grad is not None]
        clip_and_step(
            [self.parameters[name].data for name in moved],
            [g.contiguous() for name in moved if (g := self.parameters[name].grad) is not None],
            [self.momenta[name] for name in moved],
            self._lr,
            [self._decays[name] for name in moved],
            factor,
            CLIP,
            MOMENTUM,
        )

    def _step_by_torch(self, factor: float | Tensor) -> None:
        gradients = clipped(self.parameters)
        for (lr, decay), parts in self._groups.items():
            moved = [(name, heads) for name, heads in parts if name in gradients]
            sgd(
                [self.parameters[name][heads] for name, heads in moved],
                [gradients[name][heads] for name, heads in moved],
                [self.momenta[name][heads] for name, heads in moved],
                fused=True,
                weight_decay=decay,
                momentum=MOMENTUM,
                lr=lr * factor,
                dampening=0,
                nesterov=True,
                maximize=False,
            )


class StackedAdam:
    """As `clip_grad_norm_` and `torch.optim.AdamW` would train each head alone.

    The update is torch's fused one, a single pass over weights, gradients and moments. It takes one learning
    rate and one decay, so heads that share them are updated together, and each head's part of a parameter is
    a tensor of its own.
    """

    def __init__(
        self, parameters: dict[str, nn.Parameter], lr: Sequence[float], weight_decay: Sequence[float]
    ) -> None:
        self.parameters = parameters
        self.means = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self.squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
        # How many steps each head's part has taken; on the device, so that a step can be recorded.
        self.counts = {
            name: torch.zeros(len(p), dtype=torch.float32, device=p.device) for name, p in parameters.items()
        }
        self._groups = _neighbours(parameters, lr, weight_decay)

    def state(self) -> State:
        return {"mean": self.means, "square": self.squares, "count": self.counts}

    @torch.no_grad()
    def step(self, factor: float | Tensor) -> None:
        gradients = clipped(self.parameters)
        for (lr, decay), parts in self._groups.items():
            moved = [
                (name, m)
                for name, heads in parts
                if name in gradients
                for m in range(heads.start, heads.stop)
            ]
            adamw(
                [self.parameters[name][m] for name, m in moved],
                [gradients[name][m] for name, m in moved],
                [self.means[name][m] for name, m in moved],
                [self.squares[name][m] for name, m in moved],
                [],
                [self.counts[name][m] for name, m in moved],
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=lr * factor,
                weight_decay=decay,
                eps=EPSILON,
                maximize=False,
            )
        for parameter in self.parameters.values():
            drop_gradient(parameter)


def make_optimizer(
    kind: str, parameters: dict[str, nn.Parameter], lr: Sequence[float], weight_decay: Sequence[float]
) -> Optimizer:
    """Of the kind "sgd" or "adam", with a learning rate and a decay for each head of the stack."""
    return (StackedAdam if kind == "adam" else StackedSGD)(parameters, lr, weight_decay)


def clipped(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The gradients, shortened in place where a head's is longer than `CLIP`."""
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    # The length of lengths: twice as fast as all numbers of a head in one go, which one core would do alone.
    parts = [torch.linalg.vector_norm(g, dim=-1) for g in gradients.values()]
    lengths = [torch.linalg.vector_norm(part.view(len(part), -1), dim=1) for part in parts]
    shorter = (CLIP / torch.stack(lengths).norm(dim=0)).clamp(max=1)  # (M,)
    if shorter.device.type == "cpu" and bool((shorter == 1).all()):  # elsewhere one would have to wait for it
        return gradients
    for gradient in gradients.values():
        gradient.mul_(shorter.view(-1, *[1] * (gradient.ndim - 1)))
    return gradients


def _neighbours(
    parameters: dict[str, nn.Parameter], lr: Sequence[float], weight_decay: Sequence[float]
) -> Groups:
    groups: Groups = {}
    for name, parameter in parameters.items():
        settings = [(lr[m], weight_decay[m] if parameter.ndim > 2 else 0.0) for m in range(len(parameter))]
        start = 0
        for setting, equal in groupby(settings):
            stop = start + len(list(equal))
            groups.setdefault(setting, []).append((name, slice(start, stop)))
            start = stop
    return groups
