"""One frozen dataclass per stage. The command line's flags are made from them, so defaults live here alone.

Nothing here imports torch: `--help` has to answer at once.
"""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Literal

from pipeline.ablate_config import AblateConfig
from pipeline.errors import ConfigError
from pipeline.fields import Checked, Count, Device, Fraction, OneOf, Range, Seed, Workers, slug
from pipeline.train_config import SweepConfig, TrainConfig
from pipeline.trunks import TRUNKS, UNTRAINED

__all__ = ["AblateConfig", "EvaluateConfig", "ExtractConfig", "PretrainConfig", "SweepConfig", "TrainConfig"]

StorageDtype = Literal["float16", "float32", "bfloat16"]
ImagePolicy = Literal["plain", "flip", "crop-flip"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig(Checked):
    """Train a trunk as a whole network, with a classifier on top that is thrown away afterwards.

    Only the training split is read. Writes OUT/trunk.safetensors, a log and a checkpoint to resume from.
    """

    dataset: str = "cifar10"
    """digits, cifar10, or folder:PATH."""
    trunk: Annotated[str, OneOf(tuple(UNTRAINED))] = "alexnet-cifar"
    """Which network."""
    weights: str = ""
    """Weights to start from, to train a trunk further [random ones]."""
    out: str = ""
    """Folder for the weights [artifacts/trunks/TRUNK-DATASET]."""
    classes: tuple[str, ...] = ()
    """Train on these classes alone [all]."""
    train_images: ImagePolicy = "crop-flip"
    """Augmentation: as they are, flipped at random, or padded by 4, cropped at random and flipped."""
    cutout_px: Annotated[int, Range(0, 8192)] = 8
    """Side of a square at a random place that is blanked in each training image; 0: none."""
    hidden: Annotated[int, Range(1, 65_536)] = 512
    """Units of the classifier, which looks at every 3×3 window of the map."""
    mirror_maps: bool = False
    """The classifier looks at every window of the mirrored map too, for heads on ten crops of a map."""
    epochs: Count = 24
    """Passes over the training part."""
    batch: Annotated[int, Range(2, 65_536)] = 64
    """Images per step; the learning rate should grow with it."""
    lr: Annotated[float, Range(0, 100, above=True)] = 0.05
    """Peak learning rate (Nesterov SGD, warm-up, linear decay)."""
    weight_decay: Annotated[float, Range(0, 1)] = 1.5e-3
    """Of the weight matrices; biases and batch norm have none."""
    label_smoothing: Fraction = 0.1
    """Of the cross-entropy."""
    val_fraction: Fraction = 0.1
    """Part of the training split that is held out; train_head.py holds out the same images."""
    test_fraction: Fraction = 0.2
    """As for extract_features.py: share of a folder without test/ or val/ that is not to be trained on."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the convolutions [bfloat16 where the processor multiplies it fast]."""
    seed: Seed = 0
    """Of the initial weights, the order and the augmentation."""
    device: Device = "auto"
    """Where to compute [cuda, mps or cpu, what there is]."""
    workers: Workers = 0
    """Threads or processes that decode images [one per core]."""

    @property
    def out_dir(self) -> Path:
        if self.out:
            return Path(self.out)
        return Path("artifacts/trunks") / slug(self.trunk, self.dataset, *self.classes)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractConfig(Checked):
    """Stage one: run a frozen trunk once over every image and store its feature maps in HDF5.

    Writes CACHE/train.h5 and CACHE/test.h5. Interrupted, the same command goes on where it stopped.
    """

    dataset: str = "digits"
    """digits, cifar10, or folder:PATH (train/ and test/ or val/, with a folder per class); with any number of
    classes per image: scenes, csv:PATH, voc2007 or voc2007:PATH, coco:PATH."""
    trunk: Annotated[str, OneOf(tuple(TRUNKS))] = "alexnet-cifar"
    """Which frozen network."""
    weights: str = ""
    """The trunk's weights, .safetensors or .pth [those it ships with]."""
    cache: str = ""
    """Folder of the cache [artifacts/cache/DATASET-TRUNK-VIEWS, with --image-px and --resize where given]."""
    views: str = "plain"
    """plain; mirror (the image and its mirror image); augment:K (the image and K random crop-and-flip
    versions of it; the test split stays plain)."""
    dtype: StorageDtype = "float16"
    """How a number is stored."""
    image_px: Annotated[int, Range(0, 8192)] = 0
    """Side of the square image the trunk sees [the trunk's own]."""
    resize: Literal["", "exact", "shorter-side-then-center-crop", "squash"] = ""
    """How an image of another shape becomes square: refuse it; keep the middle; or squash all of it into the
    square, its aspect ratio given up [the trunk's own]."""
    test_fraction: Fraction = 0.2
    """Share of a dataset without a test split of its own (digits; folder: and csv: as the case may be) which
    becomes the test split, whatever the seed.
    Give pretrain_trunk.py the same, or the trunk knows images that heads are tested on."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """What to do about an image that can't be decoded: stop and name it, or leave it out and record it."""
    seed: Seed = 0
    """Of the augmented views."""
    batch: Annotated[int, Range(0, 65_536)] = 0
    """Images per forward pass [32 on a CPU, 512 on a GPU]."""
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Of the forward pass [float32 on a CPU, float16 on a GPU]."""
    device: Device = "auto"
    """Where to compute [cuda, mps or cpu, what there is]."""
    workers: Workers = 0
    """Threads or processes that decode images [one per core]."""

    def __post_init__(self) -> None:
        super().__post_init__()
        view_count(self.views)

    @property
    def cache_dir(self) -> Path:
        if self.cache:
            return Path(self.cache)
        size = f"{self.image_px}px" if self.image_px else ""
        return Path("artifacts/cache") / slug(self.dataset, self.trunk, self.views, size, self.resize)


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


def view_count(views: str) -> int:
    """How many views of a training image are stored: plain 1, mirror 2, augment:K 1 + K.

    Raises: ConfigError for any other text.
    """
    if views in ("plain", "mirror"):
        return 1 + (views == "mirror")
    if match := re.fullmatch(r"augment:([1-9]\d{0,3})", views):
        return 1 + int(match[1])
    raise ConfigError(f"--views: expected plain, mirror or augment:K with K from 1 to 9999, found {views!r}")
