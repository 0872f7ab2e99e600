"""How much of the picture does a cell of a map see? The receptive field beside the image's side, measured.

The cell in the middle of the map is asked how it changes with every pixel of some images:

    reach     side of the box outside of which no pixel changes it: the receptive field as it is on paper, cut
              off by the image's edges
    field     side of the square around the box's middle that holds 90 % of the squared gradients: what the
              cell does look at

Both are shares of the image's side. Each image's gradient is that of a sum of the cell's channels with random
signs, so that channels don't cancel. Shapes: B images of S×S pixels, maps C×H×W.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from cache import FeatureCache, split_path
from pipeline.datasets.base import open_dataset
from pipeline.files import read_json, write_json
from pipeline.trunks import trunk_of_identity
from pipeline.trunks.base import Trunk, normalise

IMAGES = 32
"""How many of a dataset's images are looked at, evenly spaced: classes mostly lie one after the other."""
HELD = 0.9
"""The share of the squared gradients that the field holds."""


class Field(NamedTuple):
    """What a cell sees, as shares of the image's side."""

    reach: float
    field: float


def field_of(dataset: str, folder: Path) -> Field:
    """What a cell of a cache's maps sees of the dataset's training images; kept in FOLDER/field.json.

    Raises: what opening the dataset and the trunk raise.
    """
    cache, kept = FeatureCache(split_path(folder, "train")), folder / "field.json"
    if kept.exists() and (found := read_json(kept)).pop("cache_key", None) == cache.key:
        return Field(**found)
    print(f"{folder}: measuring what a cell sees of {IMAGES} images")
    split = open_dataset(dataset)["train"]
    trunk = trunk_of_identity(cache.identity)
    rows = np.linspace(0, len(split) - 1, min(IMAGES, len(split))).astype(int)
    pixels = [trunk.transform.apply(split.images.read(row).pixels) for row in rows.tolist()]
    found = measure(trunk, torch.from_numpy(np.stack(pixels)), cache.identity.get("map_cells"))
    write_json(kept, {"cache_key": cache.key, **found._asdict()})
    return found


def measure(trunk: Trunk, images: Tensor, cells: int | None = None) -> Field:
    """What the middle cell of a trunk's maps sees of uint8 images (B, 3, S, S), after the maps are averaged
    to `cells`×`cells` if that is given."""
    module = trunk.module.float().cpu().eval()
    signs, energy = torch.Generator().manual_seed(0), torch.zeros(images.shape[2:], dtype=torch.float64)
    for image in images.split(1):
        pixels = normalise(image, trunk.transform).requires_grad_()
        maps = module(pixels)
        maps = maps if cells is None else adaptive_avg_pool2d(maps, cells)
        cell = maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2]
        sign = torch.randint(0, 2, cell.shape, generator=signs) * 2.0 - 1
        (gradient,) = torch.autograd.grad((cell * sign).sum(), pixels)
        energy += gradient[0].double().square().sum(0)
    return seen(energy.numpy())


def seen(energy: NDArray[np.float64]) -> Field:
    """The reach and the field of squared gradients (S, S)."""
    rows, columns = (np.flatnonzero(energy.any(axis)) for axis in (1, 0))
    reach = max(np.ptp(rows), np.ptp(columns)) + 1
    middle = (rows[0] + rows[-1]) / 2, (columns[0] + columns[-1]) / 2
    away = np.maximum(*(abs(grid - at) for grid, at in zip(np.indices(energy.shape), middle, strict=True)))
    order = np.argsort(away, axis=None, kind="stable")
    held = np.cumsum(energy.ravel()[order]) >= HELD * energy.sum()
    side = 2 * away.ravel()[order][int(np.argmax(held))] + 1
    return Field(float(reach / len(energy)), float(min(side, reach) / len(energy)))
