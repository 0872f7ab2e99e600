"""Scores and losses of a stack of heads on the validation part.

Shapes: M heads, B images of a batch, N of the validation part, K classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.heads.base import Head
from pipeline.heads.losses import classification_loss
from pipeline.maps.batches import Maps
from pipeline.metrics.multilabel import mean_average_precision

BATCH = 512
"""Maps that validation runs at once."""


@torch.no_grad()
def validate(head: Head, val: Maps) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(M,) scores in per cent, NaN of a head that diverged, and (M,) mean classification losses."""
    head.eval()
    device = next(head.parameters()).device
    total = torch.zeros((), device=device)
    hits, logits_MBK, seen = torch.zeros_like(total), [], []
    for inputs, labels in val.in_order(head.share_of(BATCH)):
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
