"""The configuration of stage one."""

import dataclasses
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline.checks import Checked, Device, FilePath, Fraction, OneOf, Range, Seed, Workers
from pipeline.datasets import DATASETS, name_of_dataset
from pipeline.engines.executors import ENGINES
from pipeline.trunks import SOURCES, TRUNK_NAMES
from pipeline.trunks.spec import ASK, parse
from pipeline.wording import short, slug

Dataset = Annotated[str, OneOf(DATASETS, paths=True)]
StorageDtype = Literal["float16", "float32", "bfloat16", "int8"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MapSettings(Checked):
    """Settings that decide which images' maps are in a cache, and which maps."""

    dataset: Dataset = "digits"
    """Images with their labels: NAME or NAME:PATH."""
    trunk: Annotated[str, TRUNK_NAMES] = "alexnet-cifar"
    """The frozen network: a short name, torchvision:MODEL, timm:MODEL, transformers:NAME (on the hub, or a
    folder), or your own PATH.py:FUNCTION or MODULE:FUNCTION; with @LAYER for maps of another layer than the
    last, @LAYER,LAYER for a cache each, and @? to list the layers."""
    weights: FilePath | None = None
    """File with the trunk's weights, .safetensors or .pth, or none for random ones, which most short names
    don't have (default: the weights that it is published with)."""
    cache: FilePath | None = None
    """Folder of the cache; several layers have folders in it, named after them (default:
    artifacts/cache/DATASET-TRUNK-VIEWS, where DATASET is the last name of a path, with what is given of
    --image-px, --resize and the flags like it)."""
    views: str = "plain"
    """What is stored of a training image. plain: the image; mirror: the image and its mirror image;
    augment:K: the image and K versions of it, shifted by up to an eighth of the side and mirrored, both at
    random, while the test split stays plain."""
    dtype: StorageDtype = "float16"
    """Type of the stored numbers. int8 takes half the room of float16, by a scale for each channel that is
    fitted to the maps of up to 1,024 training images."""
    image_px: Annotated[int, Range(1, 8192)] | None = None
    """Side of the square image that the trunk sees (default: the trunk's own)."""
    resize: Literal["exact", "shorter-side-then-center-crop", "squash"] | None = None
    """How an image of another shape becomes square. exact: it is refused; shorter-side-then-center-crop: its
    middle is kept; squash: all of it is squashed into the square (default: the trunk's own)."""
    crop_share: Annotated[float, Range(0.01, 1)] | None = None
    """Share of that middle's side that is kept; 1 keeps all of it (default: the trunk's own)."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "box", "hamming", "lanczos"] | None = None
    """How pixels are computed when an image is resized (default: the trunk's own)."""
    mean: tuple[Annotated[float, Range(-10, 10)], ...] = ()
    """Mean of red, green and blue, of values in 0..1, that is taken off (default: the trunk's own)."""
    std: tuple[Annotated[float, Range(0, 10, above=True)], ...] = ()
    """Standard deviation of red, green and blue that is divided by (default: the trunk's own)."""
    label_separator: str | None = None
    """What stands between the labels of an image in a csv: a text such as , or |, space for any white space,
    or none where each line has one label (default: what the table shows; it is asked for where a name may
    hold it)."""
    label_column: str | None = None
    """The column of labels of an hf: set; a.b is the field b of the column a (default: the one of classes, or
    the one called label, cls, class, category or target, if there is one)."""
    labels: FilePath | None = None
    """Table (.csv) of images whose label is another than the dataset's, in the columns image and label, such
    as a corrected label_issues.csv; features that are there are kept (default: the dataset's labels)."""
    test_fraction: Fraction = 0.2
    """Share of each class that becomes the test split where a dataset has none of its own (digits; folder:,
    csv: and hf: without one). Give pretrain_trunk.py the same share and --split-seed, or the trunk knows
    images that heads are tested on."""
    split_seed: Seed = 0
    """Random seed for drawing that share."""
    on_bad_image: Literal["stop", "skip"] = "stop"
    """What to do about an image that can't be decoded. stop: name it and stop; skip: leave it out and record
    it."""
    rehash: bool = False
    """Read every image again before a cache is called up to date, also those whose size, inode and time of
    change are as they were when they were last compared with it."""
    decoders: Workers = None
    """Threads or processes that decode images (default: one per core)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not re.fullmatch(r"plain|mirror|augment:[1-9]\d{0,3}", self.views):
            expected = "plain, mirror or augment:K with K from 1 to 9999"
            raise self.refused("views", f"expected {expected}, found {self.views!r}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 3):
                raise self.refused(name, f"expected three numbers, found {' '.join(map(str, values))}")

    @property
    def transform(self) -> dict[str, Any]:
        """The fields of the trunk's transform that are given."""
        fields = {name: getattr(self, name) for name in ("image_px", "resize", "interpolation")}
        fields["crop_share"] = self.crop_share and float(self.crop_share)
        fields |= {"mean": tuple(map(float, self.mean)), "std": tuple(map(float, self.std))}
        return {name: value for name, value in fields.items() if value}

    @property
    def lists_layers(self) -> bool:
        """Whether --trunk asks which layers there are."""
        return parse(self.trunk, SOURCES).layers == ASK

    @property
    def cache_dirs(self) -> tuple[Path, ...]:
        """The folders of caches: `cache_dir`, or those of several layers in it."""
        layers = parse(self.trunk, SOURCES).layers
        if len(layers) < 2:
            return (self.cache_dir,)
        return tuple(self.cache_dir / slug(layer) for layer in layers)

    @property
    def cache_dir(self) -> Path:
        """The folder that is written: --cache, or one named after what is in it."""
        given = self.transform
        size = f"{self.image_px}px" if self.image_px else None
        share = f"crop{self.crop_share}" if self.crop_share else None
        shades = [f"{name}{'-'.join(map(str, given[name]))}" for name in ("mean", "std") if name in given]
        random = "random" if self.weights == "none" else None
        spec = parse(self.trunk, SOURCES)
        layer = spec.layers[0] if len(spec.layers) == 1 else None  # several have folders of their own
        trunk = (spec.source if spec.source in SOURCES else None, os.path.basename(spec.model), layer)
        name = slug(name_of_dataset(self.dataset), *trunk, random, self.views, size, self.resize, share)
        name = slug(name, self.interpolation, *shades)
        return Path(self.cache or Path("artifacts/cache") / name)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractConfig(MapSettings):
    """Stage one: run a frozen trunk once over every image and store its feature maps in HDF5.

    Writes CACHE/train.h5 and CACHE/test.h5, or several files of each and a manifest, CACHE/train.json.
    Interrupted? Run the same command again: it continues where it stopped.
    """

    seed: Seed = 0
    """Random seed for the augmented views."""
    batch: Annotated[int, Range(1, 65_536)] | None = None
    """Images per forward pass (default: 32 on a CPU, 512 on a GPU)."""
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Type of the numbers in the forward pass; auto is float32 on a CPU, and on a GPU float16 if the maps of
    a few images then agree with those in float32."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    workers: Workers = None
    """Processes that extract, each a share of every split (default: one, or one per GPU for every 4,096
    images)."""
    engine: Annotated[str, OneOf(ENGINES)] = "local"
    """Where these processes come from."""
    shards: Annotated[int, Range(1, 65_536)] | None = None
    """Files of each split, with a manifest over them, CACHE/train.json; a split of fewer blocks of 1,024
    images has fewer (default: one per worker)."""
    shard: str | None = None
    """Extract a share only, as one of several workers that something else starts, of whom the last writes the
    manifest: R/N for worker R, from 0, of N, or env to take both from the environment, as set by torchrun,
    SLURM or a Kubernetes job. list: extract nothing, but list the images once, into CACHE/images.list, for
    such workers; without it each lists them by itself (default: everything)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shard is None:
            return
        if self.workers or self.engine != "local":
            raise self.refused(
                "shard", "one of several workers starts no others; leave --workers and --engine out"
            )
        share = re.fullmatch(r"(\d{1,9})/(\d{1,9})", self.shard)
        if self.shard not in ("env", "list") and not (share and int(share[1]) < int(share[2])):
            expected = "R/N with R from 0 to N - 1, env or list"
            raise self.refused("shard", f"expected {expected}, found {short(self.shard)}")


def view_count(views: str) -> int:
    """How many views of a training image are stored: plain 1, mirror 2, augment:K 1 + K."""
    return {"plain": 1, "mirror": 2}.get(views) or 1 + int(views.removeprefix("augment:"))
