"""Which images are held out, and how classes that were asked for are numbered."""

import numpy as np

from pipeline.datasets.holdout import holdout, select_classes


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
