"""The training loop: a stack of M heads over batches of their inputs.

Losses and hits are added up on the device and read once per epoch. Everything random in an epoch comes from
(data_seed, epoch) and each head's (seed, epoch), so a run can continue from the end of any epoch.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.errors import WeightsError
from pipeline.heads.base import Head
from pipeline.maps.batches import Maps
from pipeline.runs.score import MAP, TOP1
from pipeline.runs.tensors import copy_tensors, grouped, read_tensors, write_tensors
from pipeline.training.optimizer import Optimizer
from pipeline.training.schedule import schedule
from pipeline.training.step import make_step
from pipeline.training.validation import validate

BEST = ("best_epoch", "best_score", "best_loss")
"""Facts in a checkpoint about the best epoch so far."""


class Plan(NamedTuple):
    """How long and in what portions to train."""

    epochs: int
    batch: int
    rows: int  # of the training part
    data_seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch)


def default_batch(rows: int) -> int:
    """16 steps in an epoch, where there are images for it: one learning rate then suits few and many."""
    return min(max(rows // 16, 16), 512)


class Trainer:
    """Trains a stack epoch by epoch and keeps each head's best weights by validation."""

    def __init__(self, head: Head, optimizer: Optimizer, train: Maps, val: Maps | None, plan: Plan) -> None:
        self.head, self.optimizer, self.train, self.val, self.plan = head, optimizer, train, val, plan
        self.score = TOP1 if train.labels.ndim == 1 else MAP
        heads, self.device = len(head.seeds), next(head.parameters()).device
        self.memory = train.new_batch(plan.batch)
        self.step = make_step(head, optimizer, self.memory)
        self.best = {name: p.detach().clone() for name, p in head.named_parameters()}
        self.best_epoch = np.full(heads, -1)
        self.best_score = np.full(heads, -np.inf)
        self.best_loss = np.full(heads, np.inf)

    def epoch(self, epoch: int, on_step: Callable[[int], Any] = lambda images: None) -> list[dict[str, Any]]:
        """One pass over the training part and one over the validation part; a line of figures per head."""
        started = time.perf_counter()
        train_loss = self._pass(epoch, on_step)
        seconds = time.perf_counter() - started
        scores, val_loss = self._validate()
        self._keep_best(epoch, scores, val_loss)
        lines = []
        for m in range(len(train_loss)):
            line: dict[str, Any] = {"epoch": epoch + 1, "train_loss": float(train_loss[m])}
            if self.val is not None:
                line |= {"val_loss": float(val_loss[m]), self.score.key: float(scores[m])}
            lines.append(line | {"seconds": round(seconds, 4)})
        return lines

    def _pass(self, epoch: int, on_step: Callable[[int], Any]) -> np.ndarray:
        """Train for one epoch; gives the mean loss, (M,)."""
        plan, head = self.plan, self.head
        steps = plan.epochs * plan.steps_per_epoch
        rng = np.random.default_rng((plan.data_seed, epoch))
        head.train()
        head.start_epoch(epoch)
        total = torch.zeros(len(head.seeds), device=self.device)
        for step, batch in enumerate(self.train.shuffled(self.memory, rng)):
            losses = self.step(batch, schedule(epoch * plan.steps_per_epoch + step, steps))
            total.add_(losses, alpha=len(batch.labels))
            on_step(len(batch.labels))
        return total.cpu().double().numpy() / plan.rows

    def _validate(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores in per cent and mean losses on the validation part, (M,) each; NaN without one."""
        if self.val is None:
            unknown = np.full(len(self.head.seeds), np.nan)
            return unknown, unknown
        return validate(self.head, self.val)

    def _keep_best(self, epoch: int, scores: np.ndarray, loss: np.ndarray) -> None:
        """Keep what is better by score, then by loss; without a validation part the last epoch counts."""
        if self.val is None:
            better = np.full(len(scores), True)
        else:
            loss = np.where(np.isfinite(loss), loss, np.inf)
            better = (scores > self.best_score) | ((scores == self.best_score) & (loss < self.best_loss))
        self.best_score[better], self.best_loss[better] = scores[better], loss[better]
        self.best_epoch[better] = epoch
        for m in np.flatnonzero(better):
            for name, parameter in self.head.named_parameters():
                self.best[name][m].copy_(parameter.detach()[m])

    def save(self, path: Path, epoch: int) -> None:
        """Write all that `load` needs to continue with `epoch`."""
        best = {name: getattr(self, name).tolist() for name in BEST}
        write_tensors(path, self._tensors(), {"epoch": epoch, **best})

    def load(self, path: Path) -> int:
        """Go back to what was saved; gives the epoch to continue with. Raises: WeightsError."""
        tensors, facts = read_tensors(path)
        copy_tensors(path, tensors, self._tensors())
        try:
            for name in BEST:
                getattr(self, name)[:] = facts[name]
            return int(facts["epoch"])
        except (KeyError, TypeError, ValueError) as error:
            raise WeightsError(f"{path}: no checkpoint of this run ({error}); delete it") from error

    def _tensors(self) -> dict[str, Tensor]:
        current = dict(self.head.named_parameters())
        return grouped(head=current, best=self.best, **self.optimizer.state())
