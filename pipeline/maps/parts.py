"""Which cached rows a head learns from, and which choose its best epoch."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.config import TrainConfig
from pipeline.datasets.holdout import Labels, Rows, holdout, select_classes
from pipeline.errors import ConfigError


class Part(NamedTuple):
    """Rows of a cache, ascending, and their labels: positions in the run's classes, (n,), or columns of them,
    (n, K)."""

    rows: Rows
    labels: Labels


def split(labels: Labels, known: Sequence[str], config: TrainConfig) -> tuple[Part, Part]:
    """(training part, validation part) of a cache's rows, both stratified, drawn by `data_seed`.

    The held-out rows are those that pretraining with the same seed and fraction holds out. `per_class` takes
    its images from both parts, at least one for validation; a larger one contains a smaller one's images.

    Raises: ConfigError on an unknown class, or where there are too few images.
    """
    classes = tuple(config.classes) or tuple(known)
    is_held = np.zeros(len(labels), np.bool_)
    is_held[holdout(labels, config.val_fraction, config.data_seed)[1]] = True  # before classes are selected
    rows, labels = select_classes(labels, known, config.classes)
    counts = images_per_class(labels, len(classes))
    if not counts.all():
        raise ConfigError(
            f"{config.cache}: class {classes[int(counts.argmin())]} has no image in the training cache; "
            "leave it out with train_head.py --classes, or extract with images of it"
        )
    kept, held = np.flatnonzero(~is_held[rows]), np.flatnonzero(is_held[rows])
    if config.per_class:
        kept, held = _few(labels, kept, held, classes, config)
    if config.val_fraction and not images_per_class(labels[held], len(classes)).any():
        raise ConfigError(
            f"--val-fraction: {config.val_fraction} of {config.per_class or counts.min()} images per class "
            "holds out none; use more images, a larger fraction, or 0 to keep the last epoch"
        )
    return Part(rows[kept], labels[kept]), Part(rows[held], labels[held])


def images_per_class(labels: Labels, classes: int) -> NDArray[np.int64]:
    """(classes,)"""
    if labels.ndim > 1:
        return (labels == 1).sum(0)
    return np.bincount(labels, minlength=classes)


def _few(
    labels: Labels, kept: Rows, held: Rows, classes: Sequence[str], config: TrainConfig
) -> tuple[Rows, Rows]:
    """The first `per_class` images of each class, in an order drawn by the seed."""
    wanted = config.per_class or 0
    if labels.ndim > 1:
        raise ConfigError(
            "--per-class: expected images of one class each, found some of several; leave it out"
        )
    validating = min(max(1, round(config.val_fraction * wanted)), wanted - 1) if config.val_fraction else 0
    parts: list[list[Rows]] = [[], []]
    for label, name in enumerate(classes):
        counts = (wanted - validating, validating)
        for part, source, count in zip(parts, (kept, held), counts, strict=True):
            mine = source[labels[source] == label]
            if len(mine) < count:
                raise ConfigError(
                    f"--per-class: {wanted} takes {count} of {name}'s {len(mine)} images "
                    f"{'held out' if part is parts[1] else 'to train on'}; ask for fewer"
                )
            part.append(np.random.default_rng((config.data_seed, 1)).permutation(mine)[:count])
    return np.sort(np.concatenate(parts[0])), np.sort(np.concatenate(parts[1]))
