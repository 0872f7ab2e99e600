"""The training loop of a whole network, one epoch at a time, and its checkpoint."""

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from pipeline.config import PretrainConfig
from pipeline.datasets.holdout import Rows
from pipeline.errors import RunError, WeightsError
from pipeline.pretraining.batches import Batches
from pipeline.pretraining.network import Network
from pipeline.pretraining.step import Step
from pipeline.progress import say
from pipeline.runs.tensors import copy_tensors, grouped, read_tensors, write_tensors
from pipeline.training.schedule import schedule

WARM_UP = 0.2
"""Share of the steps in which the learning rate climbs."""


class PretrainingLoop:
    """Steps with a warm-up and a linear decay of the learning rate."""

    def __init__(
        self, network: Network, config: PretrainConfig, images: Tensor, labels: Tensor, rows: Rows
    ) -> None:
        """Train on `rows` of images (N, 3, S, S) and labels (N,)."""
        self.network, self.config, self.device = network, config, network.device
        self.step = Step(network, config, self.device)
        self.batches = Batches(images, labels, rows, network.classes, config, network.transform, self.device)

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
            total += self.step(inputs, labels, rate) * len(labels)
            on_step(len(labels))
        return total

    def save(self, path: Path, epoch: int) -> None:
        """Write all that `resume` needs to continue with `epoch`. Raises: WeightsError."""
        write_tensors(path, self._tensors(), {"epoch": epoch, **self.step.facts()})

    def resume(self, path: Path) -> int:
        """Go back to a checkpoint, if there is one; gives the epoch to continue with. Raises: RunError."""
        if not path.is_file():
            return 0
        try:
            tensors, facts = read_tensors(path)
            copy_tensors(path, tensors, self._tensors())
            epoch = int(facts["epoch"])
            self.step.resume(facts)
        except (WeightsError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: no checkpoint of this run; delete it to start again") from error
        say(f"resuming after epoch {epoch}")
        return epoch

    def _tensors(self) -> dict[str, Tensor]:
        return grouped(network=self.network.state_dict(), momentum=self.step.momentum)
