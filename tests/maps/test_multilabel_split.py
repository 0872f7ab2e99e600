"""Which rows train and which validate, where images have several labels."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.holdout import holdout, rarest, select_classes
from pipeline.errors import ConfigError
from pipeline.maps.parts import not_learned, split

NAMES = ("ant", "bee", "cow")
parts = partial(split, val_fraction=0.1, data_seed=0)


def some_labels(images: int, seed: int = 0) -> np.ndarray:
    """(images, 3) int8: 1, 0 and -1, with shares of presence of 10, 30 and 60 %."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((images, 3)) < [0.1, 0.3, 0.6]).astype(np.int8)
    labels[rng.random((images, 3)) < 0.05] = -1
    return labels


@given(st.integers(1, 300), st.sampled_from([0.0, 0.1, 0.5, 0.95]), st.integers(0, 2**31 - 1))
def test_a_holdout_divides_the_rows_and_a_larger_one_contains_it(
    images: int, fraction: float, seed: int
) -> None:
    labels = some_labels(images)
    kept, held = holdout(labels, fraction, seed)
    assert sorted([*kept, *held]) == list(range(images))
    assert set(held) <= set(holdout(labels, 0.95, seed)[1])
    assert np.array_equal(held, holdout(labels, fraction, seed)[1])


def test_a_rare_class_is_held_out_in_proportion() -> None:
    labels = np.zeros((1000, 2), np.int8)
    labels[:, 0] = 1
    labels[::50, 1] = 1  # 20 images, all of which show the frequent class too
    for seed in range(20):
        _, held = holdout(labels, 0.1, seed)
        assert (labels[held, 1] == 1).sum() == 2
        assert len(held) == 100


def test_the_rarest_class_of_an_image_is_found_by_counting() -> None:
    labels = some_labels(200)
    counts = [sum(row[k] == 1 for row in labels) for k in range(3)]
    for row, found in zip(labels, rarest(labels), strict=True):
        present = [k for k in range(3) if row[k] == 1]
        assert found == min(present, key=lambda k: counts[k], default=-1)


def test_selected_classes_are_columns_and_every_image_stays() -> None:
    labels = some_labels(50)
    rows, chosen = select_classes(labels, NAMES, ("cow", "ant"))
    assert np.array_equal(rows, np.arange(50))
    assert np.array_equal(chosen, labels[:, [2, 0]])
    assert np.array_equal(select_classes(labels, NAMES, ())[1], labels)
    with pytest.raises(ConfigError, match=r"--classes: .*ant, bee, cow, found 'dog'$"):
        select_classes(labels, NAMES, ("dog",))


def test_parts_carry_the_labels_of_their_rows() -> None:
    labels = some_labels(200)
    train, val = parts(labels, NAMES, classes=("bee", "cow"), data_seed=4)
    assert np.array_equal(val.rows, holdout(labels, 0.1, 4)[1])
    for part in (train, val):
        assert np.array_equal(part.labels, labels[part.rows][:, 1:])
    assert len(train.rows) + len(val.rows) == 200


def test_what_can_not_be_is_refused_by_flag() -> None:
    labels = some_labels(200)
    with pytest.raises(ConfigError, match="--per-class: expected images of one class each"):
        parts(labels, NAMES, per_class=5)
    with pytest.raises(ConfigError, match=r"--val-fraction: 0.001 of .* holds out none"):
        parts(labels, NAMES, val_fraction=0.001)


def test_a_class_without_images_is_trained_without_and_named() -> None:
    labels = some_labels(200)
    labels[:, 1] = -1
    train, val = parts(labels, NAMES)
    assert len(train.rows) + len(val.rows) == 200
    assert "shows bee, so" in not_learned(train, NAMES)
    assert not_learned(parts(labels, NAMES, classes=("ant", "cow"))[0], ("ant", "cow")) == ""


def test_a_holdout_keeps_an_image_of_every_class_to_train_on() -> None:
    """Also of one whose images all count for other classes: the third, of which the first two rows are."""
    labels = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0], [0, 1, 0]], np.int8)
    held = [tuple(holdout(labels, 0.5, seed)[1]) for seed in range(40)]
    assert len(set(held)) > 1
    assert all(labels[list({0, 1, 2, 3} - set(rows))].any(0).all() for rows in held)
