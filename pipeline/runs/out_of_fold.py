"""out_of_fold.npy in a head's folder: logits of each training image, by a head that didn't learn from it.

Cross-validation (--folds) leaves them behind. They say which labels are probably wrong, as logits of images
that a head learned from can't: it knows their labels by heart.
"""

from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.holdout import Rows
from pipeline.errors import RunError
from pipeline.files import read_bytes, replacing
from pipeline.maps.parts import Part

OUT_OF_FOLD = "out_of_fold.npy"
LARGEST = 1 << 30
"""Bytes of logits of a stack of heads, above which none are kept."""


class OutOfFold(NamedTuple):
    """The images of all folds, in the order of the cache's rows."""

    rows: Rows  # (n,) of the training cache, ascending
    logits: NDArray[np.float32]  # (n, K)


def write_out_of_fold(folder: Path, part: Part, logits_NK: NDArray[np.float32] | None) -> None:
    """Write the logits of a part's images, which come fold by fold. None: no file."""
    (folder / OUT_OF_FOLD).unlink(missing_ok=True)
    if logits_NK is None or part.folds is None:
        return
    rows = part.rows[np.argsort(part.folds, kind="stable")[np.count_nonzero(part.folds < 0) :]]
    kind = np.dtype([("row", "<i8"), ("logits", "<f4", logits_NK.shape[1:])])
    found, order = np.empty(len(rows), kind), np.argsort(rows)
    found["row"], found["logits"] = rows[order], logits_NK[order]
    with replacing(folder / OUT_OF_FOLD) as path, path.open("wb") as file:
        np.save(file, found)


def read_out_of_fold(folder: Path, classes: int) -> OutOfFold:
    """Read them. Raises: RunError when there are none, of a run without folds, or they are damaged."""
    path = folder / OUT_OF_FOLD
    if not path.exists():
        raise RunError(
            f"{folder}: has no scores of images by heads that didn't learn from them ({OUT_OF_FOLD}); train "
            "it again with --folds 5 and another --out (none are kept of heads with over 1 GiB at once)"
        )
    problem = f"{path}: expected a row and {classes} finite logits for each image"
    advice = "train the head again with another --out"
    try:
        found = np.load(BytesIO(read_bytes(path, 2 * LARGEST)), allow_pickle=False)
        rows, logits = np.array(found["row"], np.int64), np.array(found["logits"], np.float32)
    except (ValueError, EOFError, MemoryError, IndexError, TypeError) as error:
        raise RunError(f"{problem}, found what can't be read ({error}); {advice}") from error
    if logits.shape != (len(rows), classes) or not len(rows) or (np.diff(rows, prepend=-1) <= 0).any():
        raise RunError(f"{problem}, found {logits.shape}; {advice}")
    if not np.isfinite(logits).all():
        raise RunError(f"{problem}, found others; {advice}")
    return OutOfFold(rows, logits)
