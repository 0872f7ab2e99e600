"""The identity of a cache: the fields that decide whether it may be used again."""

import hashlib
from importlib.metadata import version
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import trunks
from pipeline.datasets.base import ImageSplit
from pipeline.trunks.base import Trunk
from pipeline.wording import flag

DRAWN_BY = "dataset", "test_fraction", "split_seed", "label_separator", "label_column"
"""Settings that decide which images and labels there are, and no features: notes of a cache."""
FLAGS = {
    **trunks.FLAGS,
    "views_seed": flag("seed"),
    **{name: flag(name) for name in DRAWN_BY},
    **{name: flag(name) for name in ("views", "precision", "dtype")},
}
"""The flag of extract_features.py that sets each field of a cache's identity and notes."""


def identity_of(split: ImageSplit, trunk: Trunk, precision: str, views: str, seed: int) -> dict[str, Any]:
    """The trunk, the transform, the views, the forward pass's precision and a digest of the images' sizes.

    The cache adds dtype, shape and the ordered list of paths; digests of the images are recorded block by
    block as they are read. Labels, and where the dataset lies, are no part of it.
    """
    return {
        "split": split.split,
        "trunk": trunk.as_json(),
        "transform": trunk.transform.as_json(),
        "views": views,
        # The views of an image are drawn with those of all others.
        **({"views_seed": seed, "views_images": len(split)} if views.startswith("augment") else {}),
        "precision": precision,
        **({"val_rows": split.val_rows} if split.val_rows else {}),
        "image_sizes": _digest(split.sizes),
    }


def _digest(sizes: NDArray[np.int64]) -> str:
    """SHA-256 of all sizes, of which some are copied at a time."""
    digest = hashlib.sha256()
    for at in range(0, len(sizes), 1 << 16):
        digest.update(sizes[at : at + (1 << 16)].astype("<i8").tobytes())
    return digest.hexdigest()


def made_with(device: torch.device) -> dict[str, str]:
    """The device and the versions that compute and decode, for the notes: maps of others may differ in their
    last digits, and are no other maps for it. Of a cache that was continued, those that began it."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, **{package: version(package) for package in ("torch", "pillow", "simplejpeg")}}
