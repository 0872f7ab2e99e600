"""The configuration of the ablation of crops."""

import dataclasses
from typing import Annotated, Literal

from pipeline.checks import Checked, Count, Device, FilePath, OneOf, Range, Seed, Workers
from pipeline.config.extract import Dataset

REGIMES = ("same", "transfer", "digits", "trunk")


@dataclasses.dataclass(frozen=True, kw_only=True)
class CropsConfig(Checked):
    """Does ten-crop help, and by how much? Every head and crop, several seeds, in up to four regimes.

    Makes the caches (and pretrains the trunk of the regime `transfer`) where they are not there yet. Writes
    OUT/ablation.json, ablation.md and pictures. After an interruption run the same command again.
    """

    dataset: Dataset = "cifar10"
    """Images with one label each: NAME or NAME:PATH, not a multi-label one."""
    out: FilePath = "artifacts/ablation"
    """Folder for runs and results."""
    regime: tuple[Annotated[str, OneOf(REGIMES)], ...] = ("same", "transfer", "digits")
    """same: heads on the classes that alexnet-cifar was trained on; transfer: trunk trained on half of
    the classes, heads on the other half; digits: another kind of image altogether; trunk: trunks from
    elsewhere, named by --trunk, each with the receptive field of its cells."""
    trunk: tuple[str, ...] = ("efficientnet-lite0",)
    """Trunks of the regime `trunk`, as extract_features.py takes them."""
    image_px: tuple[Annotated[int, Range(1, 8192)], ...] = ()
    """Sides of the square images that each of these trunks sees (default: the trunk's own)."""
    map_cells: Annotated[int, Range(1, 1024)] | None = None
    """Average the maps of the regime `trunk` to so many cells per side, so that maps of several sizes are cut
    into the same crops (default: maps as they are)."""
    trunk_classes: tuple[str, ...] = ()
    """Classes that the trunk of the regime `transfer` is trained on; the heads get the others (default: the
    first half)."""
    trunk_out: FilePath = "artifacts/trunks/first-half"
    """Folder in which the trunk of the regime `transfer` is pretrained, if it is not there yet."""
    trunk_run: FilePath | None = None
    """A finished run of pretrain_trunk.py on some of the classes; the regime `transfer` takes its trunk and
    its classes (default: a trunk is pretrained in --trunk-out)."""
    pretrain_epochs: Count = 24
    """Passes over the training part when that trunk is pretrained."""
    mirror_maps: bool = False
    """Pretrain that trunk with --mirror-maps, as alexnet-cifar was."""
    trunk_seed: Seed = 0
    """Random seed of that trunk, to see whether results hold for another one."""
    per_class: tuple[Annotated[int, Range(0, 10_000_000)], ...] = (5, 20, 100, 500, 0)
    """Labelled images per class in the regimes `transfer` and `trunk`; 0 means all."""
    lr: tuple[Annotated[float, Range(0, 1000, above=True)], ...] = (0.03, 0.1)
    """Learning rates to choose from by validation score."""
    weight_decay: tuple[Annotated[float, Range(0, 10)], ...] = (5e-4, 2e-2)
    """Weight decays to choose from by validation score."""
    seeds: Annotated[int, Range(1, 1000)] = 5
    """Number of seeds of each head."""
    hidden: tuple[Annotated[int, Range(1, 65_536)], ...] = (512,)
    """Widths of FullNet's hidden layers."""
    batch: Annotated[int, Range(1, 65_536)] = 512
    """Images per step."""
    epochs: Count = 6
    """Least passes over the training part; small parts get as many as make --min-steps."""
    min_steps: Annotated[int, Range(1, 1_000_000)] = 80
    """Least steps of the optimizer."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the heads' matrix products."""
    jobs: Annotated[int, Range(0, 1024)] = 1
    """Heads to train at the same time, in processes; 0 means one per core."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    decoders: Workers = None
    """Threads or processes that decode images (default: one per core)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_twins("regime", "trunk", "image_px", "trunk_classes", "per_class", "lr", "weight_decay")
