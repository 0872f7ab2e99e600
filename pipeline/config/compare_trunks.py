"""The configuration of the comparison of trunks."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from pipeline.checks import Checked, Device, FilePath, Fraction, Range, Seed, Workers
from pipeline.config.extract import Dataset
from pipeline.config.learning import HeadName
from pipeline.config.train import SweepConfig
from pipeline.datasets import name_of_dataset
from pipeline.trunks import SOURCES, TRUNK_NAMES
from pipeline.trunks.spec import ASK, parse
from pipeline.wording import slug


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareTrunksConfig(Checked):
    """Which trunk, which layer? Extract the maps of each and rank them by heads that take seconds.

    Layers of one network come out of one pass over the images. The table has validation scores with their
    intervals, the size of the maps and the speed of the trunk; the test split is left alone: evaluate.py
    --run OUT/heads scores the winner on it. Interrupted? Run the same command again.
    """

    dataset: Dataset = "digits"
    """Images with their labels: NAME or NAME:PATH."""
    trunk: tuple[Annotated[str, TRUNK_NAMES], ...] = ("alexnet-cifar", "efficientnet-lite0")
    """The trunks, as extract_features.py takes them; with @LAYER,LAYER for several layers of one."""
    head: tuple[HeadName, ...] = ("logistic", "knn")
    """Heads to rank them by."""
    image_px: Annotated[int, Range(1, 8192)] | None = None
    """Side of the square image that all of them see (default: each trunk's own)."""
    resize: Literal["exact", "shorter-side-then-center-crop", "squash"] | None = None
    """How an image of another shape becomes square, as extract_features.py has it (default: each trunk's
    own)."""
    label_separator: str | None = None
    """What stands between the labels of an image in a csv (default: what the table shows)."""
    label_column: str | None = None
    """The column of labels of an hf: set (default: the one of classes)."""
    test_fraction: Fraction = 0.2
    """Share of each class that becomes the test split where a dataset has none of its own."""
    split_seed: Seed = 0
    """Random seed for drawing that share."""
    folds: Annotated[int, Range(2, 100)] | None = None
    """Choose by cross-validation in so many folds (default: by a part of the training images that is held
    out, or the dataset's own val split)."""
    data_seed: Seed = 0
    """Random seed for the validation part or the folds."""
    out: FilePath | None = None
    """Folder for caches, heads and trunks.json (default: artifacts/trunks/DATASET)."""
    device: Device = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    decoders: Workers = None
    """Threads or processes that decode images (default: one per core)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_twins("trunk", "head")
        for spec in self.trunk:
            if parse(spec, SOURCES).layers == ASK:
                raise self.refused(
                    "trunk", f"{spec} lists layers and compares none; give it to extract_features.py"
                )
        self.training(Path())  # what it refuses is refused now

    @property
    def out_dir(self) -> Path:
        """The folder that is written."""
        return Path(self.out or Path("artifacts/trunks") / slug(name_of_dataset(self.dataset)))

    @property
    def transform(self) -> dict[str, Any]:
        """The fields of the trunks' transforms that are given."""
        return {name: getattr(self, name) for name in ("image_px", "resize") if getattr(self, name)}

    def training(self, cache: Path) -> SweepConfig:
        """How heads are trained on a cache."""
        place = cache.parts[-2:] if cache.parent.parent.name == "caches" else cache.parts[-1:]
        out = self.out_dir / "heads" / slug(*place)
        return SweepConfig(
            cache=str(cache),
            head=self.head,
            out=str(out),
            folds=self.folds,
            data_seed=self.data_seed,
            device=self.device,
            resume=True,
        )
