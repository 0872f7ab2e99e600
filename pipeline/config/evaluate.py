"""The configuration of evaluation."""

import dataclasses
from typing import Annotated

from pipeline.checks import Checked, Device, Range, Seed, Workers
from pipeline.config.pretrain import ImagePolicy
from pipeline.errors import ConfigError


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Checked):
    """Score runs on the test split: top-1, top-5, likelihood, calibration, per class; compare several.

    Of images with several labels: mAP, CF1, OF1. Writes RUN/eval/ (metrics.json, predictions.npz, and
    confusion.png or ap.png). A folder that pretrain_trunk.py made is scored as a whole network, under each
    policy of --test-images.
    """

    run: tuple[str, ...] = ("artifacts/runs/digits-alexnet-cifar-plain-fullnet-ten",)
    """Run folders. With two or more, each is compared to the first on the same images."""
    cache: str = ""
    """Score on this cache [the one the run was trained on]."""
    out: str = ""
    """Where a comparison is written [artifacts/comparison.json]."""
    resamples: Annotated[int, Range(100, 1_000_000)] = 10_000
    """Bootstrap resamples of the paired intervals."""
    seed: Seed = 0
    """Of the bootstrap and of random test images."""
    test_images: tuple[ImagePolicy, ...] = ("plain", "flip", "crop-flip")
    """How a whole network sees test images: as they are, or treated at random like training images."""
    draws: Annotated[int, Range(1, 1000)] = 5
    """Draws of each random policy."""
    show_regions: Annotated[int, Range(0, 64)] = 0
    """Of recurrent-attention: draw this many test images with the regions that it looked at (regions.png),
    and write those of all images to regions.json."""
    batch: Annotated[int, Range(1, 65_536)] = 500
    """Images per forward pass."""
    device: Device = "auto"
    """Where to compute [cuda, mps or cpu, what there is]."""
    workers: Workers = 0
    """Threads or processes that decode images [one per core]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.out and len(self.run) == 1:
            raise ConfigError("--out: expected two runs or more to compare, found one; scores go to RUN/eval")
