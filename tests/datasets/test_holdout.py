"""Which images are held out, and how classes that were asked for are numbered."""

import numpy as np
import pytest

from pipeline.datasets.holdout import draw_folds, holdout, select_classes
from pipeline.errors import ConfigError


def test_held_out_rows_are_a_share_of_every_class_and_the_same_for_trunk_and_head() -> None:
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    kept, held = holdout(labels, 0.1, seed=3)
    assert np.bincount(labels[held], minlength=3).tolist() == [10, 1, 0]
    assert sorted([*kept, *held]) == list(range(111))
    assert np.array_equal(held, holdout(labels, 0.1, seed=3)[1])
    assert not np.array_equal(held, holdout(labels, 0.1, seed=4)[1])


def test_selected_classes_are_numbered_as_asked() -> None:
    rows, labels = select_classes(np.array([0, 1, 2, 2, 1]), ["a", "b", "c"], ["c", "a"])
    assert rows.tolist() == [0, 2, 3]
    assert labels.tolist() == [1, 0, 0]


@pytest.mark.parametrize("folds", [2, 3, 5, 10])
def test_folds_share_each_class_and_all_images_evenly(folds: int) -> None:
    labels = np.repeat([3, 0, 7, 1], [41, 23, 9, 60])
    drawn = draw_folds(labels, folds, seed=4)
    sizes = np.bincount(drawn, minlength=folds)
    assert sizes.sum() == 133
    assert np.ptp(sizes) <= 1
    for label in np.unique(labels):
        assert np.ptp(np.bincount(drawn[labels == label], minlength=folds)) <= 1
    assert (drawn == draw_folds(labels, folds, seed=4)).all()
    assert (drawn != draw_folds(labels, folds, seed=5)).any()
    runs = np.flatnonzero(np.diff(drawn[labels == 1]) == 1)
    assert len(runs) < 40  # not simply in the order of the rows


def test_an_image_alone_in_its_class_is_in_no_fold() -> None:
    assert [draw_folds(np.array([0, 0, 0, 1, 2, 2]), 2, seed).tolist()[3] for seed in range(5)] == [-1] * 5
    several = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 0, -1]], np.int8)
    drawn = draw_folds(several, 2, seed=0)
    assert drawn[2] == -1
    assert sorted(drawn.tolist()) == [-1, 0, 0, 0, 1, 1]
    assert drawn[1] != drawn[3]  # the second class has these two
    assert drawn[4] != drawn[5]  # so have images without any


def test_more_folds_than_images_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^--folds: expected at least 4 images .* of a class, found 3; give fewer"
    ):
        draw_folds(np.array([0, 0, 0, 1]), 4, seed=0)
