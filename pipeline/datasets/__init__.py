"""A dataset's name and path → two splits of labelled images. A new dataset is a file and an entry here."""

import os
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal

from pipeline.wording import slug

if TYPE_CHECKING:
    from pipeline.datasets.base import ImageSplit


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """All that is known of a dataset before it is opened."""

    target: str
    """`module:function` (path: str, test_fraction: float, seed: int) -> {"train": ..., "test": ...}."""
    summary: str
    """A phrase for --help and the documentation."""
    path: Literal["none", "optional", "required"] = "none"
    """Whether a path follows the name, after a colon."""
    multi_label: bool = False
    """Whether an image may have any number of classes."""
    options: tuple[str, ...] = ()
    """What else the function takes, by name, of what `open_dataset` does."""

    def load(self, path: str, test_fraction: float, seed: int, **options: str) -> "dict[str, ImageSplit]":
        """Both splits. Raises: DataError when the dataset is missing, empty or damaged."""
        return resolve_name(self.target)(path, test_fraction, seed, **options)


DATASETS: dict[str, DatasetInfo] = {
    "digits": DatasetInfo(
        target="pipeline.datasets.digits:load",
        summary="1,797 handwritten digits of 8×8 pixels, which come with scikit-learn",
    ),
    "cifar10": DatasetInfo(
        target="pipeline.datasets.cifar10:load",
        summary="CIFAR-10, downloaded to artifacts/datasets",
    ),
    "scenes": DatasetInfo(
        target="pipeline.datasets.scenes:load",
        multi_label=True,
        summary="several digits per image among clutter, made on the spot; multi-label, with boxes",
    ),
    "folder": DatasetInfo(
        target="pipeline.datasets.folder:load",
        summary="image files with a folder per class, in train/, test/ and val/ where these are there",
        path="required",
    ),
    "csv": DatasetInfo(
        target="pipeline.datasets.csv_file:load",
        multi_label=True,
        options=("label_separator",),
        summary="image files listed in a CSV file with the columns image, labels and split; multi-label",
        path="required",
    ),
    "voc2007": DatasetInfo(
        target="pipeline.datasets.voc2007:load",
        multi_label=True,
        summary="PASCAL VOC 2007, downloaded to artifacts/datasets or in a folder; multi-label, with boxes",
        path="optional",
    ),
    "coco": DatasetInfo(
        target="pipeline.datasets.coco:load",
        multi_label=True,
        summary="MS COCO 2014 or 2017, or any set in its format; multi-label, with boxes",
        path="required",
    ),
    "hf": DatasetInfo(
        target="pipeline.datasets.hugging_face:load",
        options=("label_column",),
        summary="what the datasets library reads: a set on the Hugging Face hub, a folder saved by "
        "save_to_disk, parquet files, webdataset tar files; one label to an image or several",
        path="required",
    ),
}
"""Name → entry; `pipeline.datasets.base.open_dataset` opens one."""


def name_of_dataset(spec: str) -> str:
    """A dataset in the name of a folder: `folder:../photos` → photos, `coco:coco2017` → coco-coco2017.

    Of a path it has the last name only, so that it stays when the data move; of a CSV file, which is often
    called labels.csv, the folder's name as well.
    """
    kind, _, path = spec.removesuffix(".csv").partition(":")
    parts = Path(os.path.abspath(path)).parts[1:] if path else ()
    return slug("" if kind == "folder" else kind, *parts[-2 if kind == "csv" else -1 :])
