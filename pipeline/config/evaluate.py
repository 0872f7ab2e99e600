"""The configuration of evaluation."""

import dataclasses
from typing import Annotated, Literal

from pipeline.checks import Checked, Device, FilePath, Place, Range, Seed, Workers
from pipeline.config.pretrain import ImagePolicy


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Checked):
    """Score runs on the test split, and compare several: top-1, top-5, likelihood, calibration, per class.

    Where images have several labels: mAP, CF1, OF1. Writes RUN/eval/ (metrics.json, predictions.npz, and
    confusion.png or ap.png); scores on another cache than the run's own go beside it, to
    RUN/eval-NAME-DIGEST/. A folder that pretrain_trunk.py made is scored as a whole network, under each
    policy of --test-images.
    """

    prints_results = True

    run: tuple[FilePath, ...] = ("artifacts/runs/digits-alexnet-cifar-plain-fullnet-ten",)
    """Run folders. With two or more, each is compared with the first on the same images."""
    cache: Place | None = None
    """Cache to score on, with --stage also by URL (default: the one that the run was trained on, wherever
    either was moved to)."""
    stage: FilePath | None = None
    """Folder on a fast disk, to which the cache is copied first, as by train_head.py (default: none)."""
    allow_trained_on: bool = False
    """Score test images that the head or network was trained or validated on as well, instead of refusing
    to."""
    out: FilePath | None = None
    """File for the scores of the runs and their differences to the first (default: a file of their names in
    artifacts/comparisons/; none for a single run)."""
    resamples: Annotated[int, Range(100, 1_000_000)] = 10_000
    """Bootstrap resamples of the paired intervals."""
    seed: Seed = 0
    """Random seed for the bootstrap and for random test images."""
    test_images: tuple[ImagePolicy, ...] = ("plain", "flip", "crop-flip")
    """How a whole network sees test images: as they are, or treated at random like training images."""
    draws: Annotated[int, Range(1, 1000)] = 5
    """Random draws of each policy of --test-images."""
    show_regions: Annotated[int, Range(0, 64)] = 0
    """How many test images to draw with the regions that recurrent-attention looked at (regions.png); the
    regions of all images are written to regions.json."""
    label_issues: bool = False
    """Rank the run's training images by how probably their label is wrong, instead of scoring test images;
    writes RUN/label_issues.csv. The run must have been trained with --folds: each image is judged by a head
    that didn't learn from it."""
    issues_split: Literal["train", "test"] = "train"
    """Which images --label-issues ranks: those of the folds, or the test images by the run's head
    (RUN/label_issues_test.csv); choosing test images by what a head says of them makes its score too high."""
    duplicates: bool = False
    """List images of the run's cache that are the same or nearly so, within each split and in both, instead
    of scoring test images; writes RUN/duplicates.csv."""
    duplicate_cosine: Annotated[float, Range(0.5, 1)] = 0.95
    """Similarity from which --duplicates calls two images nearly the same: the cosine of their average maps,
    channels of equal spread."""
    batch: Annotated[int, Range(1, 65_536)] = 500
    """Images per forward pass."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    decoders: Workers = None
    """Threads or processes that decode images (default: one per core)."""
