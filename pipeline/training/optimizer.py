"""Nesterov SGD and AdamW for a stack of heads, each with its own settings.

`torch.optim` has one learning rate per parameter group; here a parameter (M, ...) carries M heads. So heads
are grouped by their settings, and torch's functions update each group's slice of a parameter.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from typing import Any

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
"""An optimizer's memory: kind → parameter → tensor (M, ...). A run continues from it."""


class Optimizer:
    """Updates all heads of a stack at once. Each head's gradient is clipped; biases, (M, h), don't decay.

    torch's fused update takes one learning rate and one decay, so the heads that share them go together.
    """

    def __init__(
        self,
        parameters: dict[str, nn.Parameter],
        lr: Sequence[float],
        weight_decay: Sequence[float],
        state: State,
        singly: bool = False,
    ) -> None:
        """`lr` and `weight_decay` have a value per head; `singly`: a head's slice is a tensor of its own."""
        self.parameters, self._state = parameters, state
        # Each setting's parameters, and neighbouring heads of the stack in them.
        self._groups: dict[tuple[float, float], list[tuple[str, int | slice]]] = defaultdict(list)
        for name, parameter in parameters.items():
            decays = weight_decay if parameter.ndim > 2 else [0.0] * len(lr)
            for setting, equal in groupby(range(len(lr)), lambda m, decays=decays: (lr[m], decays[m])):
                heads = list(equal)
                places = heads if singly else [slice(heads[0], heads[-1] + 1)]
                self._groups[setting] += [(name, place) for place in places]

    def state(self) -> State:
        """The tensors themselves, to be saved or copied into."""
        return self._state

    @torch.no_grad()
    def step(self, factor: float | Tensor) -> None:
        """Update once with `factor` times the learning rates; gradients are used up."""
        gradients = clipped(self.parameters)
        for (lr, decay), places in self._groups.items():
            moved = [(name, place) for name, place in places if name in gradients]
            tensors = (self.parameters, gradients, *self._state.values())
            sliced = [[of[name][place] for name, place in moved] for of in tensors]
            self._update(*sliced, lr=lr * factor, weight_decay=decay)
        self._drop_gradients()

    def _update(self, *tensors: list[Tensor], **setting: Any) -> None:
        """Update slices of the parameters, given those of the gradients and of the state."""
        raise NotImplementedError

    def _drop_gradients(self) -> None:
        for parameter in self.parameters.values():
            drop_gradient(parameter)


class StackedSGD(Optimizer):
    """Trains each head as `clip_grad_norm_` and `torch.optim.SGD(nesterov=True)` would train it alone.

    On a GPU, a step is two passes by `pipeline.kernels.sgd` over all heads, whatever their settings.
    """

    def __init__(
        self, parameters: dict[str, nn.Parameter], lr: Sequence[float], weight_decay: Sequence[float]
    ) -> None:
        self.momenta = {name: torch.zeros_like(p) for name, p in parameters.items()}
        super().__init__(parameters, lr, weight_decay, {"momentum": self.momenta})
        self._on_gpu = kernels.usable(*parameters.values())
        if self._on_gpu:
            like = next(iter(self.momenta.values())).float()
            self._lr, decays = like.new_tensor(lr), like.new_tensor(weight_decay)
            self._decays = {n: decays if p.ndim > 2 else 0 * decays for n, p in parameters.items()}

    @torch.no_grad()
    def step(self, factor: float | Tensor) -> None:
        if not self._on_gpu:
            super().step(factor)
            return
        from pipeline.kernels.sgd import clip_and_step

        gradients = {name: p.grad.contiguous() for name, p in self.parameters.items() if p.grad is not None}
        if not isinstance(factor, Tensor):
            factor = torch.full((), factor, device=self._lr.device)
        clip_and_step(
            [self.parameters[name].data for name in gradients],
            list(gradients.values()),
            [self.momenta[name] for name in gradients],
            self._lr,
            [self._decays[name] for name in gradients],
            factor,
            CLIP,
            MOMENTUM,
        )
        self._drop_gradients()

    def _update(self, *tensors: list[Tensor], **setting: Any) -> None:
        fixed: dict[str, Any] = {"momentum": MOMENTUM, "dampening": 0, "nesterov": True, "maximize": False}
        weights, gradients, momenta = tensors
        sgd(weights, gradients, [*momenta], fused=True, **fixed, **setting)


class StackedAdam(Optimizer):
    """Trains each head as `clip_grad_norm_` and `torch.optim.AdamW` would train it alone."""

    def __init__(
        self, parameters: dict[str, nn.Parameter], lr: Sequence[float], weight_decay: Sequence[float]
    ) -> None:
        state = {k: {n: torch.zeros_like(p) for n, p in parameters.items()} for k in ("mean", "square")}
        # How many steps each head took; on the device, so that a step can be recorded.
        counts = {n: p.new_zeros(len(p), dtype=torch.float32) for n, p in parameters.items()}
        super().__init__(parameters, lr, weight_decay, {**state, "count": counts}, singly=True)

    def _update(self, *tensors: list[Tensor], **setting: Any) -> None:
        weights, gradients, means, squares, counts = tensors
        fixed = {"beta1": BETAS[0], "beta2": BETAS[1], "eps": EPSILON, "amsgrad": False, "maximize": False}
        adamw(weights, gradients, means, squares, [], counts, fused=True, **fixed, **setting)


def make_optimizer(
    kind: str, parameters: dict[str, nn.Parameter], lr: Sequence[float], weight_decay: Sequence[float]
) -> Optimizer:
    """Make the optimizer called "sgd" or "adam", with a learning rate and a decay for each head."""
    return (StackedAdam if kind == "adam" else StackedSGD)(parameters, lr, weight_decay)


def clipped(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The gradients, after shortening in place any head's that is longer than `CLIP`."""
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
