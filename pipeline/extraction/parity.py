"""Compare some rows of a cache with maps that are computed again, by the trunk as written.

The trunk here runs unprepared: float32, eager, norms not folded, one image at a time. So everything between
the image and the file is compared: decoding, views, folding, precision, storage, row order.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cache import FeatureCache, Scales
from pipeline.datasets.base import ImageSplit
from pipeline.device import threads_for
from pipeline.errors import CacheError
from pipeline.images.views import Views
from pipeline.trunks.base import Trunk, normalise

TOLERANCE = {"float32": 1e-3, "float16": 4e-3, "bfloat16": 3e-2, "int8": 1e-3}
"""Largest difference allowed, as a fraction of the map's largest value, by the coarser of storage and
forward pass; of int8 beyond half a step of the channel, and beside what is saturated."""


def check_parity(path: Path, split: ImageSplit, trunk: Trunk, views: Views, rows: int = 8) -> float:
    """Compare `rows` rows, spread over the file; gives the largest difference found, relative.

    Raises: CacheError when it is above the tolerance; the cache must not be used then.
    """
    cache = FeatureCache(path)
    chosen = np.unique(np.linspace(0, len(split) - 1, rows).astype(int))
    stored = cache.decode(cache.take(chosen, view=None))  # (rows, V, C, H, W)
    differences, beyond = list[float](), list[float]()
    for row, maps in zip(chosen.tolist(), stored, strict=True):
        image = torch.from_numpy(trunk.transform.apply(split.images.read(row).pixels))[None]
        with torch.inference_mode(), threads_for(trunk.transform.image_px):
            live = trunk.module(normalise(views.of(image, range(row, row + 1)), trunk.transform)).numpy()
        largest = max(np.abs(live).max(), 1e-6)
        differences.append(np.abs(maps - live).max() / largest)
        beyond.append(np.max(np.abs(maps - live) - rounding(live, cache.scales)) / largest)
    worst = float(np.max(beyond))  # NaN if one is
    tolerance = max(TOLERANCE[cache.dtype], TOLERANCE[cache.identity["precision"]])
    if not worst <= tolerance:
        raise CacheError(
            f"{path}: differs from the live trunk by {worst:.2g} of a map's largest value, expected at most "
            f"{tolerance}; delete it, and if it happens again report it with the trunk's name"
        )
    return float(np.max(differences))


def rounding(maps: NDArray[np.float32], scales: Scales | None) -> NDArray[np.float32] | float:
    """How far int8 may be off from maps (V, C, H, W): half a step of the channel, and what is saturated; 0
    of other numbers, whose rounding the tolerance has in it."""
    if scales is None:
        return 0.0
    step, zero = scales[:, :, None, None]
    low, high = (-128 - zero) * step, (127 - zero) * step
    return step / 2 + np.maximum(np.maximum(low - maps, maps - high), 0)
