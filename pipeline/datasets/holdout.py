"""Which rows train and which are held out. Pretraining and head training draw the same part.

A trunk knows its training images by heart, so a head's validation images have to be images that the trunk
was not trained on either: with equal labels, fraction and seed, `holdout` gives both stages the same rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache import Labels
from pipeline.errors import ConfigError

Rows = NDArray[np.int64]


def holdout(labels: Labels, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows 0..N-1 by class: (kept, held out), both ascending.

    Of n images of a class, round(fraction·n) are held out, but never the last one. The shipped trunk was
    trained without the images that seed 0 draws here: with another draw, heads would validate on images that
    it has seen.

    An image with several labels counts as one of its rarest class.
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
    """(N,) of each image's classes the one that fewest images have; -1 for an image without any."""
    present_NK = labels_NK == 1
    counts = np.where(present_NK, present_NK.sum(0), len(labels_NK) + 1)
    return np.where(present_NK.any(1), counts.argmin(1), -1)


def select_classes(labels: Labels, known: Sequence[str], wanted: Sequence[str]) -> tuple[Rows, Labels]:
    """The rows of some classes, ascending, and their labels as positions in `wanted` (all, if it is empty).

    Of images with several labels all rows, and the columns of these classes: an image with none of them is
    an example of what they are not.

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
