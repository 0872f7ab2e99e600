"""The training loop of a whole network, one epoch at a time, and its checkpoint."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.config import PretrainConfig
from pipeline.datasets.holdout import Rows
from pipeline.device import has_fast_bfloat16
from pipeline.errors import RunError, WeightsError
from pipeline.images import augment
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
        self.images, self.labels, self.rows = images, labels, rows
        learned = {name: p for name, p in network.named_parameters() if p.requires_grad}
        groups = [
            {"params": [p for p in learned.values() if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in learned.values() if p.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
        self.momentum = {name: torch.zeros_like(p) for name, p in learned.items()}
        for name, parameter in learned.items():
            self.optimizer.state[parameter]["momentum_buffer"] = self.momentum[name]
        starts = range(0, len(rows), config.batch)
        self.starts = [start for start in starts if len(rows) - start > 1]  # one image has no variance
        self.grey = [255 * mean for mean in network.transform.mean]
        fast = config.precision == "auto" and has_fast_bfloat16(self.device)
        self.bfloat16 = fast or config.precision == "bfloat16"

    def epoch(self, epoch: int, on_step: Callable[[int], object] = lambda images: None) -> dict[str, float]:
        """Pass once over the images; gives the mean loss and the seconds taken."""
        started, total = time.perf_counter(), torch.zeros((), device=self.device)
        self.network.train()
        rng = np.random.default_rng((self.config.seed, epoch))
        order, steps = rng.permutation(self.rows), len(self.starts)
        for step, start in enumerate(self.starts, epoch * steps):
            batch = order[start : start + self.config.batch]
            draws = augment.draw(len(batch), self.config.train_images, rng)
            inputs = augment.apply(self.images[batch].to(self.device), draws)
            if self.config.cutout_px:
                inputs = augment.cut_out(inputs, self.config.cutout_px, self.grey, rng)
            rate = schedule(step, self.config.epochs * steps, WARM_UP)
            loss = self._step(inputs, self.labels[batch].to(self.device), rate)
            total += loss * len(batch)
            on_step(len(batch))
        seconds = time.perf_counter() - started
        return {"loss": total.item() / len(self.rows), "seconds": round(seconds, 1)}

    def _step(self, inputs: Tensor, labels: Tensor, rate: float) -> Tensor:
        """Learn from one batch at this share of the learning rate; gives its loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
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
