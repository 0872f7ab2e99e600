"""The training loop: a stack of M heads over batches of their inputs.

Losses and hits are added up on the device and read once per epoch. Everything random in an epoch comes from
(data_seed, epoch) and each head's (seed, epoch), or is saved, so a run can continue from any step.
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
from pipeline.runs.out_of_fold import LARGEST
from pipeline.runs.score import MAP, TOP1
from pipeline.runs.tensors import copy_tensors, grouped, read_tensors, write_tensors
from pipeline.training.optimizer import Optimizer
from pipeline.training.schedule import schedule
from pipeline.training.step import make_step, own_images
from pipeline.training.validation import Answers, validate

BEST = ("best_epoch", "best_score", "best_loss")
"""Facts in a checkpoint about the best epoch so far; -1 and -inf where there is none."""


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
    """Trains a stack epoch by epoch and keeps each head's best weights by validation.

    For cross-validation in K folds, `train` is the validation part as well, and the stack holds every head
    K + 1 times, block by block: block k leaves out the images of fold k, in the same batches as the others,
    and is scored on them; the last block learns from all images. A head's score is that of its K blocks on
    all images, by which they have one best epoch; its weights are those of the last block in this epoch.
    """

    def __init__(
        self, head: Head, optimizer: Optimizer, train: Maps, val: Maps | None, plan: Plan, folds: int = 0
    ) -> None:
        self.head, self.optimizer, self.train, self.val, self.plan = head, optimizer, train, val, plan
        self.score = TOP1 if train.labels.ndim == 1 else MAP
        self.blocks, self.device = folds + 1, next(head.parameters()).device
        heads = len(head.seeds) // self.blocks
        self.left_out: Tensor | None = None
        self.scored: dict[int | None, Head] = {None: head}
        self.images = np.full(len(head.seeds), plan.rows)  # that each learns from
        if train.folds is not None:
            self.left_out = torch.arange(self.blocks, device=self.device).repeat_interleave(heads)
            self.scored = {k: head.some(slice(k * heads, (k + 1) * heads)) for k in range(folds)}
            self.images -= (train.folds == self.left_out[:, None]).sum(1).cpu().numpy()
        self.memory = train.new_batch(plan.batch)
        self.step = make_step(head, optimizer, self.memory, self.left_out)
        self.best = {name: p.detach().clone() for name, p in head.named_parameters()}
        self.best_epoch = np.full(heads, -1)
        self.best_score = np.full(heads, -np.inf)
        self.best_loss = np.full(heads, np.inf)
        self.done = (0, 0)
        self.total_loss = torch.zeros(len(head.seeds), device=self.device)  # of this epoch

    @property
    def has_diverged(self) -> np.ndarray:
        """Which heads have no epoch to keep: a loss or a weight that isn't finite, or never a score, (M,)."""
        return self.best_epoch < 0

    def weights(self, m: int) -> dict[str, Tensor]:
        """The best weights (1, ...) of a head."""
        place = m - len(self.best_epoch)  # in the last block
        return {name: values[place:][:1] for name, values in self.best.items()}

    def epoch(self, epoch: int, on_step: Callable[[int], Any] = lambda images: None) -> list[dict[str, Any]]:
        """One pass over the training part and one over the validation part; a line of figures per head.

        Of an epoch that a checkpoint was made in, the rest is done. `on_step` is called with the number of
        images after each step, where `save` may be called.
        """
        started = time.perf_counter()
        train_loss = self._pass(epoch, on_step)
        seconds = time.perf_counter() - started
        scores, val_loss = self._validate()
        self._keep_best(epoch, scores, val_loss, train_loss)
        self.done = (epoch + 1, 0)
        lines = []
        for m in range(len(train_loss)):
            line: dict[str, Any] = {"epoch": epoch + 1, "train_loss": float(train_loss[m])}
            if self.val is not None:
                line |= {"val_loss": float(val_loss[m]), self.score.key: float(scores[m])}
            lines.append(line | {"seconds": round(seconds, 4)})
        return lines

    def _pass(self, epoch: int, on_step: Callable[[int], Any]) -> np.ndarray:
        """Train for one epoch; gives the mean loss, (M,), averaged over the blocks of folds."""
        plan, head, first = self.plan, self.head, self.done[1]
        steps = plan.epochs * plan.steps_per_epoch
        rng = np.random.default_rng((plan.data_seed, epoch))
        head.train()
        if not first:
            head.start_epoch(epoch)
            self.total_loss.zero_()
        for step, batch in enumerate(self.train.shuffled(self.memory, rng, first), first):
            losses = self.step(batch, schedule(epoch * plan.steps_per_epoch + step, steps))
            own = own_images(batch, self.left_out)
            if own is None:
                self.total_loss.add_(losses, alpha=len(batch.labels))
            else:
                self.total_loss.add_(losses * own.sum(1))
            self.done = (epoch, step + 1)
            on_step(len(batch.labels))
        means = self.total_loss.cpu().double().numpy() / self.images
        return means.reshape(self.blocks, -1).mean(0)

    def _validate(self) -> tuple[np.ndarray, np.ndarray]:
        """Scores in per cent and mean losses on the validation part, (M,) each; NaN without one."""
        if self.val is None:
            unknown = np.full(len(self.head.seeds), np.nan)
            return unknown, unknown
        answers = validate(self.scored, self.val)
        return answers.scores(), answers.losses

    @torch.no_grad()
    def answers(self) -> Answers | None:
        """What each head says of the validation part with its best weights, which it has from then on. By
        folds with logits, unless these are very many."""
        for name, parameter in self.head.named_parameters():
            parameter.copy_(self.best[name])
        if self.val is None:
            return None
        return validate(self.scored, self.val, keep=LARGEST if self.blocks > 1 else 0)

    def _keep_best(self, epoch: int, scores: np.ndarray, loss: np.ndarray, train_loss: np.ndarray) -> None:
        """Keep what is better by score, then by loss; without a validation part the last epoch counts. Forget
        all of a head that diverged."""
        if self.val is None:
            better = np.full(len(scores), True)
        else:
            loss = np.where(np.isfinite(loss), loss, np.inf)
            better = (scores > self.best_score) | ((scores == self.best_score) & (loss < self.best_loss))
        self.best_score[better], self.best_loss[better] = scores[better], loss[better]
        self.best_epoch[better] = epoch
        sums = [p.detach().flatten(1).sum(1) for p in self.head.parameters() if p.requires_grad]
        finite = torch.stack(sums).isfinite().all(0).view(self.blocks, -1).all(0)
        lost = ~(np.isfinite(train_loss) & finite.cpu().numpy())
        self.best_epoch[lost], self.best_score[lost], self.best_loss[lost] = -1, -np.inf, np.inf
        for m in np.flatnonzero(np.tile(better & ~lost, self.blocks)):
            for name, parameter in self.head.named_parameters():
                self.best[name][m].copy_(parameter.detach()[m])

    def save(self, path: Path) -> None:
        """Write all that `load` needs to go on after the last step. Raises: WeightsError."""
        best = {name: getattr(self, name).tolist() for name in BEST}
        write_tensors(path, self._tensors(), {"done": self.done, **best})

    def load(self, path: Path) -> None:
        """Go back to what was saved, on whatever device; draws of dropout go on on the same kind alone.

        Raises: WeightsError.
        """
        tensors, facts = read_tensors(path)
        try:
            epoch, step = map(int, facts["done"])
            if not (0 <= epoch <= self.plan.epochs and 0 <= step <= self.plan.steps_per_epoch):
                raise ValueError(f"{step} steps of epoch {epoch + 1}")
            for name in BEST:
                getattr(self, name)[:] = facts[name]
            self.head.start_epoch(epoch)  # makes the generators whose states follow
            wanted = self._tensors()
            draws = [name for name in wanted if name.startswith("random.")]
            if any(tensors[name].shape != wanted[name].shape for name in draws):
                raise WeightsError(
                    f"{path}: expected draws of dropout from a {self.total_loss.device.type}, found another "
                    "device's; go on with the --device that it began on, or delete it to begin again"
                )
            copy_tensors(path, tensors, wanted)
            self.head.set_random_states([wanted[name] for name in draws])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{path}: no checkpoint of this run ({error}); delete it") from error
        self.done = (epoch, step)

    def _tensors(self) -> dict[str, Tensor]:
        states = {str(m): state for m, state in enumerate(self.head.random_states())}
        return grouped(
            head=dict(self.head.named_parameters()),
            best=self.best,
            random=states,
            epoch={"total_loss": self.total_loss},
            **self.optimizer.state(),
        )
