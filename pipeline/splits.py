"""Which rows train and which are held out. Pretraining and head training draw the same part.

A trunk knows its training images by heart, so a head's validation images have to be images that the trunk
was not trained on either: with equal labels, fraction and seed, `holdout` gives both stages the same rows.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError

Rows = NDArray[np.int64]


def holdout(labels: NDArray[np.int64], fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Split rows 0..N-1 by class: (kept, held out), both ascending.

    Of n images of a class, round(fraction·n) are held out, but never the last one. The shipped trunk was
    trained without the images that seed 0 draws here: with another draw, heads would validate on images that
    it has seen.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        count = min(round(fraction * len(rows)), len(rows) - 1)
        held[rng.permutation(rows)[:count]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def select_classes(
    labels: NDArray[np.int64], known: Sequence[str], wanted: Sequence[str]
) -> tuple[Rows, NDArray[np.int64]]:
    """The rows of some classes, ascending, and their labels as positions in `wanted` (all, if it is empty).

    Raises: ConfigError naming a class that is unknown or given twice.
    """
    for name in wanted:
        if name not in known or wanted.count(name) > 1:
            found = f"{name!r} twice" if name in known else repr(name)
            raise ConfigError(f"--classes: expected names out of {', '.join(known)}, found {found}")
    position = np.full(len(known), -1, np.int64)
    for place, name in enumerate(wanted or known):
        position[known.index(name)] = place
    rows = np.flatnonzero(position[labels] >= 0)
    return rows, position[labels[rows]]
