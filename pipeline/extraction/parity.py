"""Do the cached maps equal those of the trunk as written? Some rows are computed again and compared.

The trunk here runs unprepared: float32, eager, norms not folded, one image at a time. What is compared is
therefore everything between the image and the file: decoding, views, folding, precision, storage, row order.
"""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cache import FeatureCache
from pipeline.datasets.base import ImageSplit
from pipeline.errors import CacheError
from pipeline.images.views import Views
from pipeline.trunks.base import Trunk, normalise

TOLERANCE = {"float32": 1e-3, "float16": 4e-3, "bfloat16": 3e-2}
"""Largest difference allowed, as a part of the largest value of the map, by the coarser of storage and
forward pass."""


def check_parity(path: Path, split: ImageSplit, trunk: Trunk, views: Views, rows: int = 8) -> float:
    """Compare `rows` rows, spread over the file; gives the largest difference found, relative.

    Raises: CacheError when it is above the tolerance; the cache must not be used then.
    """
    cache = FeatureCache(path)
    worst = 0.0
    for row in np.unique(np.linspace(0, len(split) - 1, rows).astype(int)).tolist():
        live = _live_maps(trunk, split, views, row)
        stored = to_float(cache.take(np.array([row]), view=None), cache.dtype)[0]  # (V, C, H, W)
        difference = (stored - live).abs().max() / live.abs().max().clamp_min(1e-6)
        worst = max(worst, difference.item())
    tolerance = max(TOLERANCE[cache.dtype], TOLERANCE[cache.identity["precision"]])
    if not worst <= tolerance:
        raise CacheError(
            f"{path}: differs from the live trunk by {worst:.2g} of a map's largest value, expected at most "
            f"{tolerance}; delete it, and if it happens again report it with the trunk's name"
        )
    return worst


def to_float(stored: np.ndarray, dtype: str) -> Tensor:
    """A cache's numbers as float32; bfloat16 is stored as its bits in uint16."""
    if dtype == "bfloat16":
        return torch.from_numpy(stored.view(np.int16)).view(torch.bfloat16).float()
    return torch.from_numpy(stored).float()


@torch.inference_mode()
def _live_maps(trunk: Trunk, split: ImageSplit, views: Views, row: int) -> Tensor:
    image = torch.from_numpy(trunk.transform.apply(split.images.read(row).pixels))[None]
    return trunk.module(normalise(views.of(image, range(row, row + 1)), trunk.transform))
