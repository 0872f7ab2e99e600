"""A head's score on 1,000 draws of the validation images, fewer where there are very many: validation.npy.

The draws are the same for every head of the same images, so the draws of a difference are differences.
"""

from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.files import read_bytes, replacing

Draws = NDArray[np.float32]
"""(R,) scores in per cent, one on each draw."""
DRAWS = "validation.npy"
"""The file with them in a head's folder."""


def write_draws(folder: Path, draws_R: Draws) -> None:
    """Write a head's scores on draws of its validation images."""
    with replacing(folder / DRAWS) as part, part.open("wb") as file:
        np.save(file, draws_R)


def read_draws(folder: Path) -> Draws:
    """A head's scores on draws of its validation images, (R,). Raises: RunError when they are damaged."""
    path = folder / DRAWS
    try:
        draws = np.load(BytesIO(read_bytes(path)), allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise RunError(f"{path}: can't be read ({error}); train the head again with another --out") from error
    if not isinstance(draws, np.ndarray) or draws.dtype != np.float32 or draws.ndim != 1:
        found = f"{draws.shape} {draws.dtype}" if isinstance(draws, np.ndarray) else "an archive"
        raise RunError(f"{path}: expected a list of float32, found {found}")
    return draws
