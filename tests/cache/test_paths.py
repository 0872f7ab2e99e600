"""Paths in one buffer are what a list of `str` is: tried on lists of every kind, and in pieces of few."""

import copy
import hashlib
import json
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import extract, header

from cache import CacheError, FeatureCache, Paths
from cache import paths as module
from cache.contents import encode_header
from cache.format import create

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
LISTS = st.lists(TEXT | st.text('ab/"\\\x7f é', max_size=3), max_size=30)


@pytest.fixture(autouse=True, scope="module", params=[3, 1 << 15])
def in_steps(request: pytest.FixtureRequest) -> Any:
    """Pieces of three paths and of more than there are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_STEP", request.param)
        yield


@given(LISTS)
def test_it_indexes_iterates_and_compares_as_a_list(listed: list[str]) -> None:
    paths = Paths(listed)
    assert len(paths) == len(listed)
    assert list(paths) == listed
    assert [paths[row] for row in range(-len(listed), len(listed))] == listed * 2
    assert paths == listed
    assert listed == paths
    assert paths == tuple(listed)
    assert paths == Paths.stored(paths.data) == copy.deepcopy(paths) == pickle.loads(pickle.dumps(paths))
    assert paths != [*listed, "x"]
    assert Paths([*listed, "x"]) != paths
    assert paths != 3
    assert paths.lengths.tolist() == [len(path.encode()) for path in listed]
    assert all(path in paths and paths[paths.index(path)] == path for path in listed)
    for row in (len(listed), -len(listed) - 1):
        with pytest.raises(IndexError):
            paths[row]


@given(LISTS, st.slices(30))
def test_a_slice_is_the_slice_of_the_list(listed: list[str], some: slice) -> None:
    assert Paths(listed)[some] == listed[some]


@given(LISTS.filter(len), st.data())
def test_any_rows_come_in_the_order_asked_for(listed: list[str], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(-len(listed), len(listed) - 1)))
    for given_rows in (rows, np.array(rows, np.int64)):
        assert Paths(listed).take(given_rows) == [listed[row] for row in rows]
    with pytest.raises(IndexError):
        Paths(listed).take([len(listed)])


@given(LISTS)
def test_the_digest_is_that_of_json_s_own_text(listed: list[str]) -> None:
    text = json.dumps(listed, separators=(",", ":"))
    assert Paths(listed).sha256 == hashlib.sha256(text.encode()).hexdigest()


@given(LISTS)
def test_the_first_path_that_comes_again_is_found(listed: list[str]) -> None:
    again = [path for row, path in enumerate(listed) if path in listed[:row]]
    assert Paths(listed).repeated() == (again[0] if again else None)


def test_paths_of_equal_hashes_are_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "hash", len, raising=False)
    assert Paths(["aa", "ab", "ac", "b"]).repeated() is None
    assert Paths(["aa", "ab", "ac", "b", "ab"]).repeated() == "ab"


@pytest.mark.parametrize(("wrong", "said"), [("b\0", "holds a NUL"), ("\udcff", "is not valid Unicode")])
def test_what_can_t_be_stored_is_refused_by_its_row(wrong: str, said: str) -> None:
    with pytest.raises(CacheError, match=rf"paths: path 7, .*, {said}"):
        Paths([*"abcdefg", wrong, "h"])


def test_one_long_path_takes_no_room_beside_the_others(tmp_path: Any) -> None:
    """4 kB for each of the paths would be 8 MB here."""
    made = header(2000, paths=["x" * 4096, *(f"{i}.png" for i in range(1999))])
    assert len(create(made)[0]) < 80_000
    assert sum(map(len, encode_header(made, create(made)[1]).values())) < 60_000
    path = extract(tmp_path / "train.h5", made)
    assert path.stat().st_size < 120_000
    assert FeatureCache(path).paths == made.paths


def test_a_hundred_thousand_paths_take_six_megabytes() -> None:
    tracemalloc.start()
    paths = Paths(f"train/n{i // 1000:08}/n{i:08}.JPEG" for i in range(100_000))
    _, peak = tracemalloc.get_traced_memory()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 4.5e6
    assert peak < 14e6
    assert paths[99_999] == "train/n00000099/n00099999.JPEG"


@given(LISTS, LISTS)
def test_one_after_the_other_is_one(first: list[str], second: list[str]) -> None:
    assert Paths(first) + second == Paths(first) + Paths(second) == first + second
