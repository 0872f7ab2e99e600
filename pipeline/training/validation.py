"""What a stack of heads says of the validation part, and its scores and losses.

Shapes: M heads, B images of a batch, N of the validation part, K classes, R draws of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.heads.base import Head
from pipeline.heads.losses import classification_loss
from pipeline.maps.batches import Maps
from pipeline.metrics.intervals import scores_on_draws
from pipeline.metrics.multilabel import mean_average_precision

BATCH = 512
"""Maps that validation runs at once."""


class Answers(NamedTuple):
    """What M heads say of N validation images."""

    found: NDArray[Any]  # (M, N) whether each is right; where images have several labels (M, N, K) logits
    labels: NDArray[np.integer]  # (N,) or (N, K)
    losses: NDArray[np.float64]  # (M,) mean classification losses

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


@torch.no_grad()
def validate(head: Head, val: Maps, on_batch: Callable[[int], object] = lambda images: None) -> Answers:
    """What the heads of a stack say of a part's plain views."""
    head.eval()
    total = torch.zeros((), device=next(head.parameters()).device)
    found, seen = [], []
    for inputs, labels in val.in_order(head.share_of(BATCH)):
        logits = head(inputs)
        total = total + classification_loss(logits, labels, head.loss).sum(1)
        seen.append(labels)
        on_batch(len(labels))
        found.append(logits.argmax(2) == labels if labels.ndim == 1 else logits.float().cpu())
    labels = torch.cat(seen).cpu().numpy()
    losses = total.cpu().double().numpy() / len(labels)
    return Answers(torch.cat(found, 1).cpu().numpy(), labels, losses)
