"""What every score asks of logits (N, K)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError


def refuse_diverged(logits_NK: NDArray[np.floating], run: Path | None = None) -> None:
    """Raises: RunError naming the run, if known, and the first image with a logit that is not finite."""
    diverged = np.flatnonzero(~np.isfinite(logits_NK).all(1))
    if len(diverged):
        where = f"{run}: " if run else ""
        raise RunError(
            f"{where}the logits of test image {diverged[0]} are not finite: the head diverged; "
            "train it again with a smaller --lr and another --out"
        )
