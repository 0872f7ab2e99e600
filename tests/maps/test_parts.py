"""Which rows train and which validate."""

import shlex
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.datasets.holdout import holdout
from pipeline.errors import ConfigError
from pipeline.maps.parts import not_learned, own_rows, split

NAMES = ("ant", "bee", "cow")
parts = partial(split, val_fraction=0.1, data_seed=0)
MANY = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [40, 50, 60]))


@given(
    st.lists(st.sampled_from(NAMES), unique=True, min_size=1),
    st.integers(2, 20),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.integers(0, 5),
)
def test_parts_are_disjoint_stratified_and_of_the_asked_size(
    names: list[str], per_class: int, fraction: float, seed: int
) -> None:
    settings = {"per_class": per_class, "val_fraction": fraction, "data_seed": seed}
    train, val = split(MANY, NAMES, classes=names, **settings)
    assert not set(train.rows) & set(val.rows)
    validating = max(1, round(fraction * per_class)) if fraction else 0
    assert np.bincount(train.labels).tolist() == [per_class - validating] * len(names)
    assert np.bincount(val.labels, minlength=len(names)).tolist() == [validating] * len(names)
    for part in (train, val):
        assert [names[label] for label in part.labels] == [NAMES[label] for label in MANY[part.rows]]
        assert np.array_equal(part.rows, np.unique(part.rows))


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=200),
    st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.95]),
    st.integers(0, 2**31 - 1),
)
def test_a_holdout_is_a_stratified_division_and_a_larger_one_contains_it(
    labels: list[int], fraction: float, seed: int
) -> None:
    given_labels = np.array(labels, np.int64)
    kept, held = holdout(given_labels, fraction, seed)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    for label in set(labels):
        count, out = labels.count(label), int((given_labels[held] == label).sum())
        assert out == min(round(fraction * count), count - 1)
    assert set(held) <= set(holdout(given_labels, 0.95, seed)[1])
    assert np.array_equal(held, holdout(given_labels, fraction, seed)[1])


def test_all_images_are_used_without_per_class() -> None:
    train, val = parts(MANY, NAMES)
    assert np.array_equal(np.sort(np.concatenate([train.rows, val.rows])), np.arange(len(MANY)))
    assert np.bincount(val.labels).tolist() == [4, 5, 6]


def test_validation_rows_are_those_that_pretraining_holds_out() -> None:
    kept, held = holdout(MANY, 0.1, 3)
    for settings in (
        {},
        {"classes": ("cow", "ant")},
        {"per_class": 20},
        {"classes": ("bee",), "per_class": 9},
    ):
        train, val = parts(MANY, NAMES, data_seed=3, **settings)  # pyright: ignore[reportArgumentType]
        assert set(val.rows) <= set(held)
        assert set(train.rows) <= set(kept)


def test_more_images_per_class_contain_the_fewer() -> None:
    few, many = (parts(MANY, NAMES, per_class=n) for n in (5, 30))
    assert set(few[0].rows) <= set(many[0].rows)
    assert set(few[1].rows) <= set(many[1].rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": ("ant", "dog")}, "--classes: .*ant, bee, cow, found 'dog'"),
        ({"classes": ("ant", "ant")}, "--classes: .*'ant' twice"),
        ({"per_class": 45}, "--per-class: needs 41 images of each class to train on, found 36 of ant; ask"),
        ({"per_class": 56}, "found 36 of ant, 45 of bee; ask for fewer, or leave these out with --classes"),
        ({"classes": ("ant", "dog", "owl")}, "--classes: .*ant, bee, cow, found 'dog', 'owl'$"),
        ({"classes": ("Bee",)}, "found 'Bee'; did you mean bee"),
        ({"per_class": 1}, "--val-fraction: .* holds out none"),
        ({"val_fraction": 0.005}, "--val-fraction: 0.005 of .* holds out none"),
    ],
)
def test_what_can_not_be_is_refused_by_flag(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parts(MANY, NAMES, **settings)


def test_classes_without_images_are_trained_without_and_all_named() -> None:
    names = (*NAMES, "dog", "fire hydrant")
    train, val = parts(MANY, names)
    assert np.array_equal(val.rows, parts(MANY, NAMES)[1].rows)
    said = not_learned(train, names)
    assert "shows dog, fire hydrant, so" in said
    advice = shlex.split(said.partition("--classes ")[2])
    assert not_learned(parts(MANY, names, classes=advice)[0], advice) == ""
    spaced = (*NAMES[:2], "sea cow", "dog")
    assert shlex.split(not_learned(train, spaced).partition("--classes ")[2]) == ["ant", "bee", "sea cow"]
    with pytest.raises(ConfigError, match="expected images of dog, fire hydrant to train on, found none"):
        parts(MANY, names, classes=("dog", "fire hydrant"))


def test_an_unknown_class_among_very_many_is_answered_in_a_short_line() -> None:
    names = [f"class {i:04}" for i in range(1200)]
    with pytest.raises(ConfigError) as caught:
        parts(np.arange(1200).repeat(2), names, classes=("class 700", "x"))
    said = str(caught.value)
    assert "class 0004 and 1,195 more, found 'class 700', 'x'; did you mean class 0700?" in said
    assert len(said) < 200


@pytest.mark.parametrize("several", [False, True])
def test_own_validation_images_are_the_last_rows_unless_a_fraction_is_given(several: bool) -> None:
    labels = np.eye(3, dtype=np.int8)[MANY] if several else MANY
    train, val = split(labels, NAMES, val_fraction=None, data_seed=0, own=30)
    assert np.array_equal(val.rows, np.arange(120, 150))
    assert np.array_equal(train.rows, np.arange(120))
    given, _ = split(labels, NAMES, val_fraction=0.0, data_seed=0, own=30)
    assert np.array_equal(given.rows, np.arange(150))
    drawn = split(labels, NAMES, val_fraction=0.1, data_seed=0, own=30)[1]
    assert np.array_equal(drawn.rows, parts(labels, NAMES)[1].rows)
    assert np.array_equal(split(labels, NAMES, val_fraction=None, data_seed=0)[1].rows, drawn.rows)
    if not several:
        few = split(labels, NAMES, per_class=10, val_fraction=None, data_seed=0, own=30)
        assert [np.bincount(part.labels).tolist() for part in few] == [[9] * 3, [1] * 3]
        assert set(few[1].rows) <= set(val.rows)


@pytest.mark.parametrize("found", ["3", -1, True, None, 1.5])
def test_a_number_of_own_rows_that_is_none_is_refused(found: object) -> None:
    with pytest.raises(ConfigError, match=r"--cache: expected a number of rows in identity\.val_rows"):
        own_rows({"val_rows": found})
