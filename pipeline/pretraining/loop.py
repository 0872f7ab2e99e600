"""The training loop of a whole network, one epoch at a time, and its checkpoint."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import PretrainConfig
from pipeline.datasets.holdout import Rows
from pipeline.device import has_fast_bfloat16
from pipeline.errors import RunError, WeightsError
from pipeline.pretraining.batches import Batches
from pipeline.pretraining.network import Network
from pipeline.progress import say
from pipeline.runs.tensors import copy_tensors, grouped, read_tensors, write_tensors
from pipeline.training.schedule import schedule

WARM_UP = 0.2
"""Share of the steps in which the learning rate climbs."""


class PretrainingLoop:
    """Nesterov SGD with a warm-up and a linear decay of the learning rate."""

    def __init__(
        self, network: Network, config: PretrainConfig, images: Tensor, labels: Tensor, rows: Rows
    ) -> None:
        """Train on `rows` of images (N, 3, S, S) and labels (N,)."""
        self.network, self.config, self.device = network, config, network.device
        learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
        groups = [
            {"params": [p for p in learned.values() if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learned.values() if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
        self.momentum = {name: torch.zeros_like(p) for name, p in learned.items()}
        for name, parameter in learned.items():
            self.optimizer.state[parameter]["momentum_buffer"] = self.momentum[name]
        self.batches = Batches(images, labels, rows, config, network.transform, self.device)
        fast = config.precision == "auto" and has_fast_bfloat16(self.device)
        self.bfloat16 = fast or config.precision == "bfloat16"

    def epoch(self, epoch: int, on_step: Callable[[int], object] = lambda images: None) -> dict[str, float]:
        """Pass once over the images; gives the mean loss and the seconds taken."""
        started = time.perf_counter()
        total = self._pass_over(epoch, on_step).item()
        return {"loss": total / len(self.batches.rows), "seconds": round(time.perf_counter() - started, 2)}

    def _pass_over(self, epoch: int, on_step: Callable[[int], object]) -> Tensor:
        """Learn from each batch; gives the sum of the images' losses, for which nothing has waited yet."""
        total = torch.zeros((), device=self.device)
        self.network.train()
        steps = len(self.batches)
        for step, (inputs, labels) in enumerate(self.batches.epoch(epoch), epoch * steps):
            rate = schedule(step, self.config.epochs * steps, WARM_UP)
            total += self._step(inputs, labels, rate) * len(labels)
            on_step(len(labels))
        return total

    def _step(self, inputs: Tensor, labels: Tensor, rate: float) -> Tensor:
        """Learn from one batch at this share of the learning rate; gives its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * rate
        half = torch.autocast(self.device.type, torch.bfloat16) if self.bfloat16 else contextlib.nullcontext()
        with half:
            logits = self.network(inputs)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.config.label_smoothing)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def save(self, path: Path, epoch: int) -> None:
        """Write all that `resume` needs to continue with `epoch`. Raises: WeightsError."""
        write_tensors(path, self._tensors(), {"epoch": epoch})

    def resume(self, path: Path) -> int:
        """Go back to a checkpoint, if there is one; gives the epoch to continue with. Raises: RunError."""
        if not path.is_file():
            return 0
        try:
            tensors, facts = read_tensors(path)
            copy_tensors(path, tensors, self._tensors())
            epoch = int(facts["epoch"])
        except (WeightsError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: no checkpoint of this run; delete it to start again") from error
        say(f"resuming after epoch {epoch - 1}")
        return epoch

    def _tensors(self) -> dict[str, Tensor]:
        return grouped(network=self.network.state_dict(), momentum=self.momentum)
