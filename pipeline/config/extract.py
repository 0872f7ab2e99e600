"""The configuration of stage one."""

import dataclasses
import re
from pathlib import Path
from typing import Annotated, Literal

from pipeline.checks import Checked, Device, Fraction, OneOf, Range, Seed, Workers, slug
from pipeline.errors import ConfigError
from pipeline.trunks import TRUNKS

StorageDtype = Literal["float16", "float32", "bfloat16"]


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


def view_count(views: str) -> int:
    """How many views of a training image are stored: plain 1, mirror 2, augment:K 1 + K.

    Raises: ConfigError for any other text.
    """
    if views in ("plain", "mirror"):
        return 1 + (views == "mirror")
    if match := re.fullmatch(r"augment:([1-9]\d{0,3})", views):
        return 1 + int(match[1])
    raise ConfigError(f"--views: expected plain, mirror or augment:K with K from 1 to 9999, found {views!r}")
