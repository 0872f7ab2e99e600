"""The rows to train on and the rows to hold out, by labels, fraction and seed.

A trunk knows its training images by heart, so the trunk must not have been trained on a head's validation
images either: `holdout` gives pretraining and head training the same rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache import Labels
from pipeline.errors import ConfigError

Rows = NDArray[np.int64]


def holdout(labels: Labels, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows 0..N-1 by class: (kept, held out), both ascending.

    round(fraction·n) of the n images of a class are held out, but never the last one; an image with several
    labels counts for its rarest class. The shipped trunk was trained without the images that seed 0 draws.
    """
    rng = np.random.default_rng(seed)
    labels = rarest(labels) if labels.ndim > 1 else labels
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(round(fraction * len(rows)), len(rows) - 1)
        held[rng.permutation(rows)[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def rarest(labels_NK: Labels) -> NDArray[np.int64]:
    """(N,) the class of each image that fewest images have; -1 for an image without any."""
    present_NK = labels_NK == 1
    counts = np.where(present_NK, present_NK.sum(0), len(labels_NK) + 1)
    return np.where(present_NK.any(1), counts.argmin(1), -1)


def draw_test(labels: Labels, test_fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Draw a test split: (rows to train on, rows to test on), both ascending.

    Labels (N,) give the same share of each class (see `holdout`), multi-label ones (N, K) any rows.

    Raises: ConfigError when that leaves no image to test on, or none to train on.
    """
    if labels.ndim == 2:
        order = np.random.default_rng(seed).permutation(len(labels))
        count = round(test_fraction * len(labels))
        train, test = np.sort(order[count:]), np.sort(order[:count])
    else:
        train, test = holdout(labels, test_fraction, seed)
    if not len(test) or not len(train):
        whole = "the images" if labels.ndim == 2 else "each class"
        raise ConfigError(
            f"--test-fraction: expected images to test on, found none: {test_fraction} of {whole} is less "
            "than one image, or would be all of its images; raise it or add images"
        )
    return train, test


def select_classes(labels: Labels, known: Sequence[str], wanted: Sequence[str]) -> tuple[Rows, Labels]:
    """The rows of some classes, ascending, and their labels as positions in `wanted` (empty: all classes).

    Multi-label images keep all rows, and the columns of these classes: an image with none of them is a
    negative example.

    Raises: ConfigError naming a class that is unknown or given twice.
    """
    for name in wanted:
        if name not in known or wanted.count(name) > 1:
            found = f"{name!r} twice" if name in known else repr(name)
            raise ConfigError(f"--classes: expected names out of {', '.join(known)}, found {found}")
    if labels.ndim > 1:
        return np.arange(len(labels)), labels[:, [known.index(name) for name in wanted or known]]
    position = np.full(len(known), -1, np.int64)
    for place, name in enumerate(wanted or known):
        position[known.index(name)] = place
    rows = np.flatnonzero(position[labels] >= 0)
    return rows, position[labels[rows]]
