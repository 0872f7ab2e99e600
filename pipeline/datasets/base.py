"""A dataset's two splits: ordered lists of labelled images, which are read and decoded by row.

Legend: N images, K classes, H×W pixels.
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from cache import Paths
from pipeline.datasets import DATASETS
from pipeline.errors import ConfigError
from pipeline.images.pillow import hush
from pipeline.wording import did_you_mean, flag

SplitName = Literal["train", "test"]

Rows = Sequence[int] | NDArray[np.integer]

Boxes = NDArray[np.float32]
"""(n, 5): class, x0, y0, x1, y1 of each object of an image, in pixels of the decoded image from its upper
left corner; x1 and y1 are exclusive, so a box is x1 − x0 wide."""


class ImageBytes(NamedTuple):
    """One image, decoded."""

    pixels: np.ndarray
    """(H, W, 3) uint8, RGB."""
    digest: bytes
    """16 bytes: xxh3-128 of the file, or of the pixels where there is no file."""


class ImageReader(Protocol):
    """Reads the images of a split by row. Picklable: a worker process is sent what `take` gives."""

    @property
    def in_memory(self) -> bool:
        """Whether the pixels are here already, so that `read` decodes nothing."""
        ...

    def read(self, row: int) -> ImageBytes:
        """Raises: DataError naming the image, when it can't be read or decoded."""
        ...

    def digest(self, row: int) -> bytes:
        """The digest that `read` gives, without decoding. Raises: DataError."""
        ...

    def take(self, rows: Rows) -> "ImageReader":
        """A reader of these rows alone, in this order."""
        ...

    def statuses(self) -> NDArray[np.int64] | None:
        """(N, 3): size, inode and time of the last change (ns) of each file; None where there are no files.

        They are at least as old as what `read` gives. Raises: DataError.
        """
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSplit:
    """An ordered list of labelled images."""

    dataset: str
    """Name in the registry."""
    split: SplitName
    classes: tuple[str, ...]
    """Names; a label is an index into them."""
    paths: Paths
    """(N,) unique, relative, with forward slashes."""
    sizes: np.ndarray
    """(N,) int64: stored bytes of each image."""
    labels: np.ndarray
    """(N,) int64, or multi-label (N, K) int8: 1 present, 0 absent, -1 not counted (unknown or difficult)."""
    images: ImageReader
    ignored: Sequence[str] = ()
    """Files and folders in the dataset's folder that are not used, in words."""
    remarks: Sequence[str] = ()
    """How files were understood, where they have more than one meaning."""
    boxes: Sequence[Boxes] | None = None
    """The objects of each image: N arrays. None where the dataset has no boxes."""
    val_rows: int = 0
    """How many of the last rows of a training split are validation images that the dataset brings itself."""

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def multi_label(self) -> bool:
        """An image may have any number of classes."""
        return self.labels.ndim == 2

    def take(self, rows: Rows) -> "ImageSplit":
        """These rows alone, in this order: of a dataset's own validation images, the last again."""
        return dataclasses.replace(
            self,
            paths=self.paths.take(rows),
            sizes=self.sizes[rows],
            labels=self.labels[rows],
            images=self.images.take(rows),
            boxes=None if self.boxes is None else [self.boxes[row] for row in rows],
            val_rows=int(np.sum(np.asarray(rows) >= len(self) - self.val_rows)),
        )

    def without(self, rows: Iterable[int]) -> "ImageSplit":
        """All other rows, in order."""
        kept = np.delete(np.arange(len(self)), list(rows))
        return self if len(kept) == len(self) else self.take(kept)


class ArrayReader:
    """Reads images of one size that are in memory: (N, H, W, 3) uint8."""

    in_memory = True

    def __init__(self, pixels_NHWC: np.ndarray) -> None:
        self.pixels_NHWC = pixels_NHWC

    def read(self, row: int) -> ImageBytes:
        return ImageBytes(np.ascontiguousarray(self.pixels_NHWC[row]), self.digest(row))

    def digest(self, row: int) -> bytes:
        return xxh3_128_digest(np.ascontiguousarray(self.pixels_NHWC[row]).data)

    def take(self, rows: Rows) -> "ArrayReader":
        return ArrayReader(self.pixels_NHWC[rows])

    def statuses(self) -> None:
        return None


def open_dataset(
    spec: str,
    *,
    test_fraction: float = 0.2,
    seed: int = 0,
    label_separator: str | None = None,
    label_column: str | None = None,
) -> dict[str, ImageSplit]:
    """The "train" and "test" splits of a dataset.

    Args:
        spec: a name in `DATASETS`, with a path where the dataset takes one: `digits`, `folder:PATH`.
        test_fraction: share of each class that becomes the test split of a dataset without one.
        seed: random seed for drawing that share.
        label_separator: what separates the labels of an image, in a dataset that has them as text.
        label_column: which column holds the labels, in a dataset with columns of any names.

    Raises:
        ConfigError: the name is unknown, a path is missing or has no place, or another argument has none.
        DataError: the dataset is missing, empty or damaged.
    """
    name, _, path = spec.partition(":")
    if name not in DATASETS:
        known = ", ".join(name + _PATH[info.path] for name, info in DATASETS.items())
        kind = "csv" if spec.endswith(".csv") else "folder"
        near = f"; did you mean {kind}:{spec}?" if os.path.exists(spec) else did_you_mean(name, DATASETS)
        raise ConfigError(f"--dataset: expected one of {known}, found {spec!r}{near}")
    takes = DATASETS[name].path
    if path and takes == "none":
        raise ConfigError(f"--dataset: {name} takes no path, found {spec}")
    if not path and takes == "required":
        raise ConfigError(f"--dataset: {name} needs a path: {name}:PATH")
    given = {"label_separator": label_separator, "label_column": label_column}
    options = {option: text for option, text in given.items() if text is not None}
    for option, text in options.items():
        if not text or option not in DATASETS[name].options:
            takers = " and ".join(
                f"{other}:PATH" for other, info in DATASETS.items() if option in info.options
            )
            raise ConfigError(
                f"{flag(option)}: expected a text, for {takers} alone, found {text!r} for {name}; "
                "leave it out"
            )
    hush()
    return DATASETS[name].load(path, test_fraction, seed, **options)


_PATH = {"none": "", "optional": "[:PATH]", "required": ":PATH"}
