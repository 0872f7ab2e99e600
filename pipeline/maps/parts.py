"""Which rows of a cache train a head, and which validate it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.holdout import Labels, Rows, holdout, select_classes
from pipeline.errors import ConfigError


class Part(NamedTuple):
    """Rows of a cache, ascending, and their labels: positions in the classes (n,), or columns (n, K)."""

    rows: Rows
    labels: Labels


def split(
    labels: Labels,
    known: Sequence[str],
    *,
    classes: Sequence[str] = (),
    per_class: int | None = None,
    val_fraction: float,
    data_seed: int,
) -> tuple[Part, Part]:
    """(training part, validation part) of a cache's rows, both stratified, drawn by `data_seed`.

    The rows held out are the same that pretraining with this seed and fraction holds out. `per_class` takes
    its images from both parts, at least one for validation; a larger one contains a smaller one's images.

    Raises: ConfigError on an unknown class, or where there are too few images.
    """
    names = classes or known
    is_held = np.zeros(len(labels), np.bool_)
    is_held[holdout(labels, val_fraction, data_seed)[1]] = True  # before classes are selected
    rows, labels = select_classes(labels, known, classes)
    counts = images_per_class(labels, len(names))
    if not counts.all():
        raise ConfigError(
            f"--cache: class {names[int(counts.argmin())]} has no image in the training cache; leave it out "
            "with train_head.py --classes, or extract with images of it"
        )
    kept, held = np.flatnonzero(~is_held[rows]), np.flatnonzero(is_held[rows])
    if per_class:
        if labels.ndim > 1:
            raise ConfigError(
                "--per-class: expected images of one class each, found some of several; leave it out"
            )
        validating = min(max(1, round(val_fraction * per_class)), per_class - 1) if val_fraction else 0
        kept = _few(labels, kept, names, per_class - validating, data_seed, "to train on")
        held = _few(labels, held, names, validating, data_seed, "held out")
    if val_fraction and not images_per_class(labels[held], len(names)).any():
        raise ConfigError(
            f"--val-fraction: {val_fraction} of {per_class or counts.min()} images per class holds out none; "
            "use more images, a larger fraction, or 0 to keep the last epoch"
        )
    return Part(rows[kept], labels[kept]), Part(rows[held], labels[held])


def images_per_class(labels: Labels, classes: int) -> NDArray[np.int64]:
    """How many images each class has, (classes,)."""
    return (labels == 1).sum(0) if labels.ndim > 1 else np.bincount(labels, minlength=classes)


def _few(labels: Labels, rows: Rows, names: Sequence[str], count: int, seed: int, part: str) -> Rows:
    """The first `count` rows of each class, in an order drawn by the seed."""
    chosen = []
    for label, name in enumerate(names):
        mine = rows[labels[rows] == label]
        if len(mine) < count:
            raise ConfigError(
                f"--per-class: needs {count} of {name}'s {len(mine)} images {part}; ask for fewer"
            )
        chosen.append(np.random.default_rng((seed, 1)).permutation(mine)[:count])
    return np.sort(np.concatenate(chosen))
