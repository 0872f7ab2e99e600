"""The losses of heads: one per image for its labels, and the paper's constraints on regions of attention.

Labels are (B,) int64, one class per image, or (B, K) with 1 present, 0 absent and -1 not counted. Losses are
summed over classes and over regions, as in the paper (ICCV 2017), and the caller averages them over images:
one factor for both parts, so their balance is the paper's, whatever the batch.

Shapes: M heads, B images, K classes, N crops, S regions per crop.
"""

from collections.abc import Collection

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline import kernels
from pipeline.errors import ConfigError
from pipeline.wording import flag

ANCHORS = (
    *((0.0, 0.0), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)),
    *((0.5, 0.0), (-0.5, 0.0), (0.0, 0.5), (0.0, -0.5)),
)
"""Places (tx, ty) that the regions are pulled to in turn: the paper's five, then the middles between its
corners, then the first again."""
WIDEST = 0.5  # |s| that the constraint scale asks for: half the side of the map
LEAST = 0.1  # s that the constraint positive asks for
SHARES = {"scale": 1.0, "anchor": 0.01, "positive": 0.1}
"""Weights of the constraints in the loss of localisation."""


def kind_of_loss(asked: str, multi_label: bool) -> str:
    """Resolve --loss auto by the kind of labels. Raises: ConfigError where the loss doesn't suit them."""
    if asked == "auto":
        return "bce" if multi_label else "cross-entropy"
    if multi_label and asked == "cross-entropy":
        raise ConfigError(
            f"{flag('loss')}: expected auto, bce or softmax-square, for images with several labels, "
            "found cross-entropy"
        )
    return asked


def classification_loss(logits_MBK: Tensor, labels: Tensor, kind: str) -> Tensor:
    """The loss (M, B) of each image under each head, in float32 or better, summed over classes.

    cross-entropy   -log softmax at the label; needs one label per image
    bce             binary cross-entropy of each class that is counted
    softmax-square  squared error of the softmax to the labels divided by their number (ICCV 2017). An image
                    without a label contributes nothing; a class that isn't counted is taken as absent
    """
    logits = logits_MBK.float() if logits_MBK.dtype.itemsize < 4 else logits_MBK
    if kind == "cross-entropy":
        labels = labels.expand(len(logits), -1)
        return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    if labels.ndim == 1:
        labels = F.one_hot(labels, logits.shape[2])
    present_BK = (labels == 1).to(logits.dtype)
    if kind == "bce":
        losses = F.binary_cross_entropy_with_logits(logits, present_BK.expand_as(logits), reduction="none")
        return (losses * (labels >= 0)).sum(2)
    if kind != "softmax-square":
        raise ValueError(f"expected cross-entropy, bce or softmax-square, found {kind!r}")
    count_B1 = present_BK.sum(1, keepdim=True)
    error_MBK = logits.softmax(2) - present_BK / count_B1.clamp(min=1)
    return (error_MBK * error_MBK).sum(2) * (count_B1[:, 0] > 0)


def mean_loss(logits_MBK: Tensor, labels: Tensor, kind: str, own_MB: Tensor | None = None) -> Tensor:
    """The classification loss (M,) of each head, averaged as `mean_of` does."""
    if kind == "cross-entropy" and own_MB is None and kernels.usable(logits_MBK):
        from pipeline.kernels.cross_entropy import MOST_CLASSES, MeanCrossEntropy

        if logits_MBK.shape[2] <= MOST_CLASSES:
            return MeanCrossEntropy.apply(logits_MBK, labels)
    return mean_of(classification_loss(logits_MBK, labels, kind), own_MB)


def mean_of(losses_MB: Tensor, own_MB: Tensor | None) -> Tensor:
    """The mean (M,) over the images, or over those that are a head's own: 0 of a head without any."""
    if own_MB is None:
        return losses_MB.mean(1)
    return torch.where(own_MB, losses_MB, 0.0).sum(1) / own_MB.sum(1).clamp(min=1)


def localisation_loss(theta_MBNS4: Tensor, constraints: Collection[str], places_S2: Tensor) -> Tensor:
    """The constraints (M, B) on the regions (sx, sy, tx, ty), summed over regions, averaged over crops.

    anchor     ½|t - a|², a the region's own anchor, from `anchors`
    scale      max(|s| - ½, 0)², for both axes
    positive   max(0.1 - s, 0), for both axes
    """
    s_MBNS2, t_MBNS2 = theta_MBNS4[..., :2], theta_MBNS4[..., 2:]
    terms = {
        "anchor": lambda: 0.5 * (t_MBNS2 - places_S2).square(),
        "scale": lambda: (s_MBNS2.abs() - WIDEST).relu().square(),
        "positive": lambda: (LEAST - s_MBNS2).relu(),
    }
    total = theta_MBNS4.new_zeros(theta_MBNS4.shape[:2])
    for name in SHARES:
        if name in constraints:
            total = total + SHARES[name] * terms[name]().sum((3, 4)).mean(2)
    return total


def anchors(regions: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """The places (S, 2) that the regions are pulled to."""
    return torch.tensor([ANCHORS[k % len(ANCHORS)] for k in range(regions)], dtype=dtype)
