"""Compare some rows of a cache with maps that are computed again, by the trunk as written.

The trunk here runs unprepared: float32, eager, norms not folded, one image at a time. So everything between
the image and the file is compared: decoding, views, folding, precision, storage, row order.
"""

from pathlib import Path

import numpy as np
import torch

from cache import DTYPES, FeatureCache
from pipeline.datasets.base import ImageSplit
from pipeline.errors import CacheError
from pipeline.images.views import Views
from pipeline.trunks.base import Trunk, normalise

TOLERANCE = {"float32": 1e-3, "float16": 4e-3, "bfloat16": 3e-2}
"""Largest difference allowed, as a fraction of the map's largest value, by the coarser of storage and
forward pass."""


def check_parity(path: Path, split: ImageSplit, trunk: Trunk, views: Views, rows: int = 8) -> float:
    """Compare `rows` rows, spread over the file; gives the largest difference found, relative.

    Raises: CacheError when it is above the tolerance; the cache must not be used then.
    """
    cache = FeatureCache(path)
    chosen = np.unique(np.linspace(0, len(split) - 1, rows).astype(int))
    stored = DTYPES[cache.dtype].decode(cache.take(chosen, view=None))  # (rows, V, C, H, W)
    differences = []
    for row, maps in zip(chosen.tolist(), stored, strict=True):
        image = torch.from_numpy(trunk.transform.apply(split.images.read(row).pixels))[None]
        with torch.inference_mode():
            live = trunk.module(normalise(views.of(image, range(row, row + 1)), trunk.transform)).numpy()
        differences.append(np.abs(maps - live).max() / max(np.abs(live).max(), 1e-6))
    worst = float(np.max(differences))  # NaN if one is
    tolerance = max(TOLERANCE[cache.dtype], TOLERANCE[cache.identity["precision"]])
    if not worst <= tolerance:
        raise CacheError(
            f"{path}: differs from the live trunk by {worst:.2g} of a map's largest value, expected at most "
            f"{tolerance}; delete it, and if it happens again report it with the trunk's name"
        )
    return worst
