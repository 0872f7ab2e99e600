"""Canonical JSON, the key, and naming what differs."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.samples import header

from cache import CacheError
from cache.identity import canonical, differences, first_difference, key

SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4)
)


def shuffled(value: Any) -> Any:
    """The same JSON with the fields of every object in reverse order."""
    if isinstance(value, dict):
        return {k: shuffled(v) for k, v in reversed(value.items())}
    return [shuffled(v) for v in value] if isinstance(value, list) else value


@given(JSON)
def test_canonical_json_reads_back_and_has_one_spelling(value: Any) -> None:
    spelled = canonical(value)
    assert json.loads(spelled) == value
    assert canonical(json.loads(spelled)) == spelled == canonical(shuffled(value))
    assert spelled.isascii()


def test_canonical_json_is_this_very_text() -> None:
    value = {"b": [1, 2.5, True, None], "a": {"ü": "x y"}}
    assert canonical(value) == b'{"a":{"\\u00fc":"x y"},"b":[1,2.5,true,null]}'


def test_golden_keys_of_whole_headers() -> None:
    """Found with each header's paths in a list of `str` and Python's own JSON: no cache may change keys."""
    assert header(2500).key == "11c3c040759e1e2b6a2525ed39be42492f833756fe2e0b6b474cc51b3d5eba47"
    odd = ["a b/ü.png", '"\\\x7f\n', "名前/画像.png", "\U0001f600"]
    assert header(4, paths=odd).key == "97d95f4a4d6e278b4842bf9d6f780322e77c41b69c8ca4af48e3acb842a2533c"


def test_key_is_the_sha256_of_the_canonical_json() -> None:
    # printf '{"a":1}' | sha256sum
    assert key({"a": 1}) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": math.nan}}, r"a\.b is nan"),
        ({"a": [1, math.inf]}, r"a\[1\] is inf"),
        ({"a": {1: 2}}, "a has the field name 1"),
        ({"a": np.float32(1)}, "a is a float32"),
        ({"a": np.int64(1)}, "a is a int64"),
        ({"a": b"x"}, "a is a bytes"),
        ({"a": {1, 2}}, "a is a set"),
        (object(), "the value is a object"),
    ],
)
def test_what_json_would_change_is_refused_by_name(value: Any, message: str) -> None:
    with pytest.raises(CacheError, match=message):
        canonical(value)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["a.b: 1 → 2"]),
        ({"a": 1}, {"b": 1}, ["a: 1 → absent", "b: absent → 1"]),
        ({"a": None}, {}, ["a: null → absent"]),
        ({"a": 1}, {"a": 1.0}, ["a: 1 → 1.0"]),
        ({"a": 1}, {"a": True}, ["a: 1 → true"]),
        ({"a": [1, 2]}, {"a": [1, 3]}, ["a: [1,2] → [1,3]"]),
        ({"a": {"b": 1}}, {"a": 1}, ['a: {"b":1} → 1']),
        ({"z": 1, "y": {"x": 2}}, {"z": 0, "y": {"x": 0}}, ["y.x: 2 → 0", "z: 1 → 0"]),
    ],
)
def test_differences_name_each_field(old: Any, new: Any, expected: list[str]) -> None:
    assert differences(old, new) == expected


@given(st.dictionaries(st.text(), JSON, max_size=3), st.dictionaries(st.text(), JSON, max_size=3))
@settings(max_examples=40)
def test_there_are_differences_exactly_when_the_keys_differ(old: Any, new: Any) -> None:
    assert (differences(old, new) == []) == (key(old) == key(new))
    assert differences(old, shuffled(old)) == []


@given(st.text(max_size=200), st.text(max_size=200))
def test_long_values_are_shortened_around_the_place_where_they_differ(old: str, new: str) -> None:
    for line in differences({"a": "same" * 50 + old}, {"a": "same" * 50 + new}):
        was, now = line.removeprefix("a: ").split(" → ") if line.count(" → ") == 1 else ("", "x")
        assert was != now
        assert len(line) < 100


def test_a_long_value_shows_what_changed_in_its_middle() -> None:
    (line,) = differences({"a": "x" * 100 + "OLD" + "y" * 100}, {"a": "x" * 100 + "NEW" + "y" * 100})
    assert "OLD" in line
    assert "NEW" in line


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["a", "b"], ["a", "c"], "paths: row 1: b → c"),
        (["a"], ["a", "b"], "paths: row 1: absent → b"),
        (["a", "b"], ["b", "a"], "paths: row 0: a → b"),
        (["a", "b"], [], "paths: row 0: a → absent"),
    ],
)
def test_lists_of_paths_are_compared_by_their_first_difference(
    old: list[str], new: list[str], expected: str
) -> None:
    assert first_difference(old, new) == expected
