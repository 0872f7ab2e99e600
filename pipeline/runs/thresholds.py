"""thresholds.json in a head's folder: from which probability a label is present, of images with several.

It is the one with the best F1 on the validation images; null for a class that none of them has.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.files import read_json, write_json

THRESHOLDS = "thresholds.json"
UNCHOSEN = 0.5
"""The threshold of a class without validation images."""
_UNITS = "probability from which a label counts as present: the best F1 on validation images"


def write_thresholds(folder: Path, thresholds_K: NDArray[np.float64] | None) -> None:
    """Write thresholds in the order of the run's classes; NaN where none could be chosen. None: no file."""
    if thresholds_K is not None:
        write_json(folder / THRESHOLDS, {"thresholds": thresholds_K.tolist(), "units": _UNITS})


def read_thresholds(folder: Path, classes: int) -> NDArray[np.float64]:
    """(K,) thresholds; NaN where none could be chosen, everywhere without a validation part.

    Raises: RunError when the file is damaged.
    """
    if not (folder / THRESHOLDS).exists():
        return np.full(classes, np.nan)
    found = read_json(folder / THRESHOLDS).get("thresholds")
    if not _are_right(found, classes):
        raise RunError(
            f"{folder / THRESHOLDS}: expected {classes} probabilities or nulls; train the head again "
            "with another --out"
        )
    return np.array(found, np.float64)


def _are_right(found: Any, classes: int) -> bool:
    return (
        isinstance(found, Sequence)
        and len(found) == classes
        and all(p is None or (isinstance(p, float | int) and 0 <= p <= 1) for p in found)
    )
