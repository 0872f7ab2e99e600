"""The score by which validation chooses epochs, settings and heads: top-1, or mAP of several labels an image.

Shapes: M heads, B images of a batch, N of the validation part, K classes.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.datasets.holdout import Labels
from pipeline.heads.base import Head
from pipeline.heads.losses import classification_loss
from pipeline.maps.batches import Maps
from pipeline.metrics.multilabel import mean_average_precision

BATCH = 512
"""Maps that validation runs at once."""


class Score(NamedTuple):
    """What a validation score is called."""

    key: str
    """In metrics.jsonl, summary.json and leaderboard.json; per cent."""
    title: str


TOP1, MAP = Score("val_top1", "top-1"), Score("val_map", "mAP")


def score_of(labels: Labels) -> Score:
    """The score that suits these labels."""
    return TOP1 if labels.ndim == 1 else MAP


def score_in(entry: dict[str, Any]) -> Score:
    """The score that a summary, or a line of a leaderboard, holds."""
    return MAP if MAP.key in entry else TOP1


@torch.no_grad()
def validate(head: Head, val: Maps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M,) scores in per cent, NaN of a head that diverged, and (M,) mean classification losses."""
    head.eval()
    device = next(head.parameters()).device
    total = torch.zeros((), device=device)
    hits, logits_MBK, seen = torch.zeros_like(total), [], []
    for inputs, labels in val.batches(head.share_of(BATCH), None):
        logits = head(inputs)
        total = total + classification_loss(logits, labels, head.loss).sum(1)
        seen.append(labels)
        if labels.ndim == 1:
            hits = hits + (logits.argmax(2) == labels).sum(1)
        else:
            logits_MBK.append(logits.float().cpu())
    count = sum(map(len, seen))
    losses = total.cpu().double().numpy() / count
    if not logits_MBK:
        scores = hits.cpu().double().numpy() * 100 / count
        return np.where(np.isfinite(losses), scores, np.nan), losses  # NaN has its maximum at class 0
    logits_MNK, labels_NK = torch.cat(logits_MBK, 1).numpy(), torch.cat(seen).cpu().numpy()
    scores = 100 * mean_average_precision(logits_MNK, labels_NK)
    return np.where(np.isfinite(logits_MNK).all((1, 2)), scores, np.nan), losses
