"""The digits against scikit-learn's arrays."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from pipeline.datasets.base import open_dataset
from pipeline.errors import ConfigError


def test_pixels_and_labels_are_scikit_learns() -> None:
    images, targets = load_digits(return_X_y=True)
    seen = set()
    for split in open_dataset("digits").values():
        for row, path in enumerate(split.paths):
            i = int(path.removeprefix("digits/"))
            seen.add(i)
            pixels = split.images.read(row).pixels
            assert pixels.shape == (8, 8, 3)
            exact = images[i].reshape(8, 8, 1) * 255 / 16
            assert np.abs(pixels - exact).max() <= 0.5
            assert split.labels[row] == targets[i]
    assert seen == set(range(1797))


def test_white_is_white_and_black_is_black() -> None:
    test = open_dataset("digits")["test"]
    pixels = np.stack([test.images.read(row).pixels for row in range(len(test))])
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_the_split_is_stratified_and_drawn_by_seed() -> None:
    splits = open_dataset("digits")
    train, test = splits["train"], splits["test"]
    assert (len(train), len(test)) == (1438, 359)
    share = np.bincount(test.labels) / (np.bincount(test.labels) + np.bincount(train.labels))
    np.testing.assert_allclose(share, 0.2, atol=0.003)
    assert open_dataset("digits")["test"].paths == test.paths
    assert open_dataset("digits", seed=1)["test"].paths != test.paths
    assert len(open_dataset("digits", test_fraction=0.5)["test"]) == pytest.approx(898, abs=5)


def test_no_test_part_is_refused() -> None:
    with pytest.raises(ConfigError, match="--test-fraction"):
        open_dataset("digits", test_fraction=0)
