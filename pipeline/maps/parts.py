"""Which rows of a cache train a head, and which validate it."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.holdout import VAL_FRACTION, Labels, Rows, select_classes, validation_rows
from pipeline.errors import ConfigError
from pipeline.wording import short, shown, some


class Part(NamedTuple):
    """Rows of a cache, ascending, and their labels: positions in the classes (n,), or columns (n, K).

    `folds` (n,) are there for cross-validation: the fold of each row, as `draw_folds` draws it.
    """

    rows: Rows
    labels: Labels
    folds: Rows | None = None


def split(
    labels: Labels,
    known: Sequence[str],
    *,
    classes: Sequence[str] = (),
    per_class: int | None = None,
    val_fraction: float | None,
    data_seed: int,
    own: int = 0,
) -> tuple[Part, Part]:
    """(training part, validation part) of a cache's rows.

    The rows held out are those that pretraining holds out: see `validation_rows`, also for `val_fraction` and
    `own`. `per_class` takes its images from both parts, at least one for validation; a larger one contains a
    smaller one's images.

    Raises: ConfigError on an unknown class, or where there are too few images.
    """
    names = classes or known
    is_held = validation_rows(labels, val_fraction, data_seed, own)  # before classes are selected
    rows, labels = select_classes(labels, known, classes)
    kept, held = np.flatnonzero(~is_held[rows]), np.flatnonzero(is_held[rows])
    fraction = VAL_FRACTION if val_fraction is None else val_fraction
    if per_class:
        if labels.ndim > 1:
            raise ConfigError(
                "--per-class: expected images of one class each, found some of several; leave it out"
            )
        validating = min(max(1, round(fraction * per_class)), per_class - 1) if fraction else 0
        kept = _few(labels, kept, names, per_class - validating, data_seed, "to train on")
        held = _few(labels, held, names, validating, data_seed, "held out")
    if not images_per_class(labels[kept], len(names)).any():
        raise ConfigError(
            f"--cache: expected images of {some(map(shown, names))} to train on, found none; choose other "
            "--classes, or extract with images of these"
        )
    if fraction and not images_per_class(labels[held], len(names)).any():
        smallest = min(filter(None, images_per_class(labels, len(names)).tolist()))
        raise ConfigError(
            f"--val-fraction: {fraction} of {per_class or smallest} images per class holds out none; "
            "use more images, a larger fraction, or 0 to keep the last epoch"
        )
    return Part(rows[kept], labels[kept]), Part(rows[held], labels[held])


def own_rows(identity: Mapping[str, Any]) -> int:
    """How many of a cache's last rows are the dataset's own validation images. Raises: ConfigError."""
    found = identity.get("val_rows", 0)
    if type(found) is not int or found < 0:
        raise ConfigError(f"--cache: expected a number of rows in identity.val_rows, found {short(found)}")
    return found


def not_learned(part: Part, names: Sequence[str]) -> str:
    """A line about the classes of which a part has no image, and how to leave them out; empty without any."""
    present = images_per_class(part.labels, len(names)) > 0
    learned, missing = (
        [n for n, here in zip(names, present, strict=True) if here == w] for w in (True, False)
    )
    if not missing:
        return ""
    few = " ".join(map(shlex.quote, learned)) if len(learned) <= 20 else "and the names of the others"
    return (
        f"no image to train on shows {some(map(shown, missing), 20)}, so all that is learned of such a class "
        f"is that it is absent; to leave out: --classes {few}"
    )


def images_per_class(labels: Labels, classes: int) -> NDArray[np.int64]:
    """How many images each class has, (classes,)."""
    return (labels == 1).sum(0) if labels.ndim > 1 else np.bincount(labels, minlength=classes)


def _few(labels: Labels, rows: Rows, names: Sequence[str], count: int, seed: int, part: str) -> Rows:
    """The first `count` rows of each class, in an order drawn by the seed. Raises: ConfigError."""
    has = images_per_class(labels[rows], len(names)).tolist()
    if few := [f"{n} of {shown(name)}" for name, n in zip(names, has, strict=True) if n < count]:
        raise ConfigError(
            f"--per-class: needs {count} images of each class {part}, found {some(few)}; ask for fewer, or "
            "leave these out with --classes"
        )
    chosen = [
        np.random.default_rng((seed, 1)).permutation(rows[labels[rows] == label])[:count]
        for label in range(len(names))
    ]
    return np.sort(np.concatenate(chosen))
