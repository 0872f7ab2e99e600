"""The configuration of predicting."""

import dataclasses
from typing import Annotated

from pipeline.checks import Checked, Device, FilePath, Place, Range, Workers
from pipeline.trunks import TRUNK_NAMES


@dataclasses.dataclass(frozen=True, kw_only=True)
class PredictConfig(Checked):
    """Predict the classes of photos without labels, through trunk and head: no cache is needed.

    PHOTO is a file, a folder with all photos below it, or a pattern such as 'photos/*.jpg'. Photos that can't
    be decoded are named and passed over. --out keeps every prediction in a file. Interrupted? Run the same
    command again: it continues where it stopped.
    """

    prints_results = True
    positional = "images", "PHOTO"

    images: tuple[Place, ...] = ()
    """Photos, folders and patterns; the flag may be left out (default: none, where --cache is given)."""
    run: FilePath = "artifacts/runs/digits-alexnet-cifar-plain-fullnet-ten"
    """Run folder of the head; in a sweep's folder, its best head by validation."""
    cache: Place | None = None
    """Predict from a cache's maps instead: a folder, whose test split is taken, or an .h5 file or the .json
    of a split (default: none)."""
    stage: FilePath | None = None
    """Folder on a fast disk, to which that cache is copied first, as by train_head.py (default: none)."""
    weights: FilePath | None = None
    """File with the trunk's weights, where extract_features.py was given one (default: the weights that it
    ships with)."""
    trunk: Annotated[str, TRUNK_NAMES] | None = None
    """Where the trunk is now, if its code or folder has moved, such as PATH.py:FUNCTION (default: where the
    run says)."""
    out: FilePath | None = None
    """File for all predictions, .csv or .jsonl (default: none)."""
    top_k: Annotated[int, Range(1, 1_000_000)] | None = None
    """How many classes of each image are shown, and written with their probabilities (default: 3 are shown,
    all are written)."""
    threshold: Annotated[float, Range(0, 1)] | None = None
    """Probability from which an image has a label, where it may have several (default: for each class the one
    with the best F1 on validation images)."""
    show: Annotated[int, Range(0, 1_000_000)] = 20
    """How many images are listed on the screen, the first ones; all are in --out."""
    batch: Annotated[int, Range(1, 65_536)] | None = None
    """Images per forward pass (default: 32 on a CPU, 512 on a GPU, fewer for heads that look at crops)."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    decoders: Workers = None
    """Threads or processes that decode images (default: one per core)."""
