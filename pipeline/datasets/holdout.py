"""The rows to train on and the rows to hold out, by labels, fraction and seed; nothing else draws them.

A trunk knows its training images by heart, so the trunk must not have been trained on a head's validation
images either: `validation_rows` gives pretraining and head training the same rows. It looks at all classes,
so it comes before `select_classes`: what is drawn of a class doesn't depend on which others are chosen.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache import Labels
from pipeline.errors import ConfigError
from pipeline.wording import did_you_mean, some

Rows = NDArray[np.int64]
VAL_FRACTION = 0.1
"""Share that is held out where none is given and the dataset has no validation images of its own."""


def share_drawn(fraction: float | None, own: int) -> float | None:
    """The share that is drawn for validation, of a dataset with `own` validation images; None: its own are
    taken."""
    return VAL_FRACTION if fraction is None and not own else fraction


def validation_rows(labels: Labels, fraction: float | None, seed: int, own: int = 0) -> NDArray[np.bool_]:
    """(N,) whether a row of a training split, of which all classes are there, is held out for validation.

    Args:
        fraction: share of each class that is drawn, see `holdout`; None: the dataset's own validation images,
            or `VAL_FRACTION` where it has none.
        own: how many of the last rows are the dataset's own validation images.
    """
    held, share = np.zeros(len(labels), np.bool_), share_drawn(fraction, own)
    if share is None:
        held[-own:] = True
    else:
        held[holdout(labels, share, seed)[1]] = True
    return held


def holdout(labels: Labels, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows 0..N-1 by class: (kept, held out), both ascending.

    round(fraction·n) of the n images of a class are held out, but never the last one; an image with several
    labels counts for its rarest class, and one that would be the last of any of its classes is kept. The
    shipped trunk was trained without the images that seed 0 draws.
    """
    rng = np.random.default_rng(seed)
    groups = rarest(labels) if labels.ndim > 1 else labels
    held, turn = np.zeros(len(groups), np.bool_), np.empty(len(groups))
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        order = rng.permutation(rows)
        held[order[: min(round(fraction * len(rows)), len(rows) - 1)]] = True
        turn[order] = np.arange(1, len(rows) + 1) / len(rows)
    if labels.ndim > 1:  # the image of each class that a growing fraction would take last
        present_NK = labels == 1
        last_K = np.where(present_NK, turn[:, None], 0.0).argmax(0)
        held[last_K[present_NK.any(0)]] = False
    return np.flatnonzero(~held), np.flatnonzero(held)


def draw_folds(labels: Labels, folds: int, seed: int) -> Rows:
    """Draw a fold for each row, (N,) from 0 on, of as many images as the others and of as many of each class,
    or one more or less; -1: in no fold, so that nothing is scored on it and everything learns from it.

    An image with several labels counts for its rarest class. In no fold are the only images of a class.

    Raises: ConfigError when there are fewer images to score on than folds.
    """
    if labels.ndim > 1:
        groups, present_NK = rarest(labels), labels == 1
        alone = (present_NK & (present_NK.sum(0) == 1)).any(1)
    else:
        groups, alone = labels, np.bincount(labels)[labels] == 1
    order = np.random.default_rng(seed).permutation(np.flatnonzero(~alone))
    if len(order) < folds:
        raise ConfigError(
            f"--folds: expected at least {folds} images that are not the only ones of a class, found "
            f"{len(order)}; give fewer folds or more images"
        )
    fold = np.full(len(labels), -1)
    fold[order[np.argsort(groups[order], kind="stable")]] = np.arange(len(order)) % folds
    return fold


def rarest(labels_NK: Labels) -> NDArray[np.int64]:
    """(N,) the class of each image that fewest images have; -1 for an image without any."""
    present_NK = labels_NK == 1
    counts = np.where(present_NK, present_NK.sum(0), len(labels_NK) + 1)
    return np.where(present_NK.any(1), counts.argmin(1), -1) if counts.size else np.full(len(labels_NK), -1)


def draw_test(labels: Labels, test_fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Draw a test split, stratified as `holdout` does: (rows to train on, rows to test on), both ascending.

    Raises: ConfigError when that leaves no image to test on.
    """
    train, test = holdout(labels, test_fraction, seed)
    if not len(test):
        raise ConfigError(
            f"--test-fraction: expected images to test on, found none: {test_fraction} of each class is less "
            "than one image, or would be all of its images; raise it or add images"
        )
    return train, test


def select_classes(labels: Labels, known: Sequence[str], wanted: Sequence[str]) -> tuple[Rows, Labels]:
    """The rows of some classes, ascending, and their labels as positions in `wanted` (empty: all classes).

    Multi-label images keep all rows, and the columns of these classes: an image with none of them is a
    negative example.

    Raises: ConfigError naming the classes that are unknown, or one that is given twice.
    """
    if twice := [name for name in wanted if wanted.count(name) > 1]:
        raise ConfigError(f"--classes: expected names that differ, found {twice[0]!r} twice")
    if unknown := [name for name in wanted if name not in known]:
        hint = did_you_mean(unknown[0], known)
        raise ConfigError(
            f"--classes: expected names out of {some(known)}, found {some(map(repr, unknown))}{hint}"
        )
    place = {name: i for i, name in enumerate(known)}
    columns = [place[name] for name in wanted or known]
    if labels.ndim > 1:
        return np.arange(len(labels)), labels[:, columns]
    position = np.full(len(known), -1, np.int64)
    position[columns] = np.arange(len(columns))
    rows = np.flatnonzero(position[labels] >= 0)
    return rows, position[labels[rows]]
