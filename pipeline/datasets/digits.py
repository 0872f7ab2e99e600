"""scikit-learn's handwritten digits: 1,797 grey images of 8×8 pixels, ten classes, inside the library.

They have no test split; one is drawn by seed. Enlarging them to the trunk's input is the transform's work.
"""

import numpy as np

from cache import Paths
from pipeline.datasets.base import ArrayReader, ImageSplit, SplitName
from pipeline.datasets.holdout import draw_test


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """The splits; paths are digits/0000 and on, in scikit-learn's order."""
    from sklearn.datasets import load_digits

    levels, targets = (np.asarray(found) for found in load_digits(return_X_y=True))
    grey_NHW = np.rint(levels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)  # of levels 0..16
    pixels_NHWC = np.repeat(grey_NHW[..., None], 3, axis=-1)
    labels = targets.astype(np.int64)
    paths = Paths(f"digits/{i:04}" for i in range(len(labels)))
    train_rows, test_rows = draw_test(labels, test_fraction, seed)

    def split(name: SplitName, rows: np.ndarray) -> ImageSplit:
        return ImageSplit(
            dataset="digits",
            split=name,
            classes=tuple(str(digit) for digit in range(10)),
            paths=paths.take(rows),
            sizes=np.full(len(rows), pixels_NHWC[0].nbytes, np.int64),
            labels=labels[rows],
            images=ArrayReader(pixels_NHWC[rows]),
        )

    return {"train": split("train", train_rows), "test": split("test", test_rows)}
