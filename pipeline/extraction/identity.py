"""What a cache is made from: the fields that decide whether it may be used again."""

import hashlib
from typing import Any

from cache import CacheHeader
from pipeline.checks import flag
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit
from pipeline.trunks.base import Trunk

FLAGS = {
    "dataset": flag("dataset"),
    "test_fraction": flag("test_fraction"),
    "trunk.name": flag("trunk"),
    "trunk.weights": flag("weights"),
    "transform.image_px": flag("image_px"),
    "transform.resize": flag("resize"),
    "views": flag("views"),
    "views_seed": flag("seed"),
    "precision": flag("precision"),
    "dtype": flag("dtype"),
}
"""What fields of a cache's identity and notes are set by, on extract_features.py's command line."""


def cache_header(
    config: ExtractConfig,
    trunk: Trunk,
    split: ImageSplit,
    shape: tuple[int, int, int, int, int],
    views: str,
    precision: str,
    skipped: list[tuple[str, str]],
) -> CacheHeader:
    """Header of the cache of a split with maps of `shape` (N, V, C, H, W).

    The identity holds the trunk (name, code version, digest of its weights), the transform, the views, the
    precision of the forward pass and the sizes of the images; the cache adds dtype, shape and the ordered
    list of paths. Digests of the images are recorded block by block as they are read. Labels, the place
    of the dataset, --test-fraction and the images that were left out are no part of it: they are notes.
    """
    identity: dict[str, Any] = {
        "split": split.split,
        "trunk": {"name": trunk.name, "version": trunk.version, "weights": trunk.weights_sha256},
        "transform": trunk.transform.as_json(),
        "views": views,
        "precision": precision,
        "image_sizes": hashlib.sha256(split.sizes.astype("<i8").tobytes()).hexdigest(),
    }
    if views.startswith("augment"):
        identity["views_seed"] = config.seed
    notes = {
        "dataset": config.dataset,
        "test_fraction": float(config.test_fraction),
        "skipped": [{"path": p, "reason": why} for p, why in skipped],
    }
    return CacheHeader(
        shape=shape,
        dtype=config.dtype,
        labels=split.labels,
        paths=split.paths,
        classes=split.classes,
        identity=identity,
        notes=notes,
        flags=FLAGS,
    )
