"""What a stack of heads says of the validation part, and its scores and losses.

Shapes: M heads, B images of a batch, N of the validation part, K classes, R draws of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.heads.base import Head
from pipeline.heads.losses import classification_loss
from pipeline.maps.batches import Maps
from pipeline.metrics.intervals import scores_on_draws
from pipeline.metrics.multilabel import mean_average_precision
from pipeline.metrics.thresholds import best_thresholds

BATCH = 512
"""Maps that validation runs at once."""


class Answers(NamedTuple):
    """What M heads say of N validation images."""

    found: NDArray[Any]  # (M, N) whether each is right; where images have several labels (M, N, K) logits
    labels: NDArray[np.integer]  # (N,) or (N, K)
    losses: NDArray[np.float64]  # (M,) mean classification losses
    logits: NDArray[np.float32] | None = None  # (M, N, K), where they were asked for

    @property
    def sound(self) -> NDArray[np.bool_]:
        """(M,) whether all that a head says is finite: NaN, as of one that diverged, has its maximum at
        class 0."""
        return np.isfinite(self.found).all(tuple(range(1, self.found.ndim))) & np.isfinite(self.losses)

    def scores(self) -> NDArray[np.float64]:
        """(M,) top-1 or mAP in per cent, NaN of a head that diverged."""
        share = self.found.mean(1) if self.labels.ndim == 1 else mean_average_precision(*self[:2])
        return np.where(self.sound, 100 * share, np.nan)

    def on_draws(self) -> NDArray[np.float32]:
        """(M, R) the scores on images drawn with replacement, see `scores_on_draws`."""
        return np.where(self.sound[:, None], scores_on_draws(*self[:2]), np.float32(np.nan))

    def thresholds(self, head: int) -> NDArray[np.float64] | None:
        """(K,) the probabilities from which a label is best called present; None where images have one."""
        return None if self.labels.ndim == 1 else best_thresholds(self.found[head], self.labels)

    @property
    def first_logits(self) -> NDArray[np.float32] | None:
        """(N, K) of the first head, where they were asked for."""
        return None if self.logits is None else self.logits[0]

    def of(self, head: int) -> "Answers":
        """What a single head says."""
        logits = None if self.logits is None else self.logits[head : head + 1]
        return Answers(self.found[head : head + 1], self.labels, self.losses[head : head + 1], logits)


class _Collected:
    """The answers of a stack, batch by batch."""

    def __init__(self, head: Head, room: int) -> None:
        self.head, self.room = head.eval(), room
        self.total, self.found, self.seen = torch.zeros(()), list[torch.Tensor](), list[torch.Tensor]()
        self.logits = list[torch.Tensor]()

    def add(self, inputs: torch.Tensor, labels: torch.Tensor) -> None:
        logits = self.head(inputs)
        total = classification_loss(logits, labels, self.head.loss).sum(1)
        self.total = total + self.total.to(total.device)
        self.seen.append(labels)
        if logits.shape[0] * logits.shape[2] <= self.room:
            self.logits.append(logits.float().cpu())
        self.found.append(logits.argmax(2) == labels if labels.ndim == 1 else logits.float().cpu())

    def answers(self) -> Answers:
        labels = torch.cat(self.seen).cpu().numpy()
        losses = self.total.cpu().double().numpy() / len(labels)
        found = torch.cat(self.found, 1).cpu().numpy()
        return Answers(found, labels, losses, torch.cat(self.logits, 1).numpy() if self.logits else None)


@torch.no_grad()
def validate(
    heads: Mapping[int | None, Head],
    val: Maps,
    on_batch: Callable[[int], object] = lambda images: None,
    *,
    keep: int = 0,
) -> Answers:
    """What heads say of a part's plain views: those of a fold k of the images of this fold, those of None of
    all. With several folds, the images come fold by fold. `keep`: with logits, if they take so many bytes at
    most."""
    room = keep // (4 * len(val.labels))
    collected = {fold: _Collected(head, room) for fold, head in heads.items()}
    size = min(head.share_of(BATCH) for head in heads.values())
    for inputs, labels, folds in val.in_order(size):
        for fold, into in collected.items():
            if fold is None or folds is None:
                into.add(inputs, labels)
            elif len(mine := (folds == fold).nonzero()[:, 0]):
                into.add(inputs[mine], labels[mine])
        on_batch(len(labels))
    return joined([each.answers() for each in collected.values()])


def joined(parts: Sequence[Answers]) -> Answers:
    """Answers to several sets of images as one; of the first heads, where some have more of them."""
    heads, images = min(len(part.found) for part in parts), [len(part.labels) for part in parts]
    found = np.concatenate([part.found[:heads] for part in parts], 1)
    losses = np.average([part.losses[:heads] for part in parts], 0, images)
    labels = np.concatenate([part.labels for part in parts])
    kept = [part.logits[:heads] for part in parts if part.logits is not None]
    return Answers(found, labels, losses, np.concatenate(kept, 1) if kept else None)
