"""A cache as a sequence: what numpy's indexing of h5py's arrays gives, a map and its label at a time."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.samples import extract, header

from cache import FeatureCache, Rows

INDICES = (
    st.integers(-30, 29)
    | st.slices(30)
    | hnp.arrays(st.sampled_from([np.int64, np.int8]), st.integers(0, 40), elements=st.integers(-30, 29))
    | hnp.arrays(np.bool_, 30)
    | st.lists(st.integers(-30, 29))
)


def opened(folder: Path, **changes: Any) -> tuple[FeatureCache, np.ndarray]:
    """30 rows of two views, and the first views by h5py, which reads bfloat16 as float32."""
    path = extract(folder / "train.h5", header(30, views=2, **changes))
    with h5py.File(path) as file:
        dataset = file["features"]
        assert isinstance(dataset, h5py.Dataset)
        return FeatureCache(path), dataset[:, 0]


@pytest.fixture(scope="module", params=["float16", "float32", "bfloat16"])
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return opened(tmp_path_factory.mktemp("views"), dtype=request.param)


@given(index=INDICES)
def test_rows_equal_numpy_indexing(both: tuple[FeatureCache, np.ndarray], index: Any) -> None:
    cache, expected = both
    index_np = np.array(index, np.int64) if isinstance(index, list) else index
    found = cache[index]
    assert isinstance(found, Rows)
    assert found.features.dtype == expected.dtype
    assert np.array_equal(found.features, expected[index_np])
    assert np.array_equal(found.labels, cache.labels[index_np])


def test_it_iterates_as_long_as_it_is(sample: Path) -> None:
    cache = FeatureCache(sample)
    found = list(cache)
    assert len(found) == len(cache) == 2500
    assert np.array_equal(np.stack([features for features, _ in found]), cache.take(np.arange(2500)))
    assert [label for _, label in found] == cache.labels.tolist()
    assert isinstance(found[0].labels, int)


def test_what_it_gives_belongs_to_the_caller(sample: Path) -> None:
    cache = FeatureCache(sample)
    before = cache[0].features.copy()
    features, labels = cache[:1]
    features[:], labels[:] = 7, 7
    assert np.array_equal(cache[0].features, before)
    assert cache[0].labels == cache.labels[0]


def test_multi_label_rows_have_a_row_of_labels(tmp_path: Path) -> None:
    labels = np.array([[1, 0, -1], [0, 0, 0], [0, 1, 1]])
    cache = FeatureCache(extract(tmp_path / "a.h5", header(3, labels=labels, classes=["a", "b", "c"])))
    assert cache[2].labels.tolist() == [0, 1, 1]
    assert cache[[2, 0]].labels.tolist() == [[0, 1, 1], [1, 0, -1]]
    assert [row.labels.tolist() for row in cache] == labels.tolist()


@pytest.mark.parametrize(
    "index", [2500, -2501, [0, 2500], 1.0, "a", None, [[1]], True, [True], np.zeros(3, bool)]
)
def test_rows_that_aren_t_there_are_refused(sample: Path, index: Any) -> None:
    with pytest.raises(IndexError, match=r"train\.h5: rows: expected a list of integers from 0 to 2499"):
        FeatureCache(sample)[index]
