"""Reading against plain numpy indexing of what h5py reads."""

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from joblib import Parallel, delayed
from support.samples import extract, header

from cache import CacheError, FeatureCache
from cache.contents import opened
from cache.format import create
from cache.held import _id
from cache.one_file import OneFile


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """30 images, 4 views each."""
    made = header(30, views=4, map_shape=(3, 2, 5))
    return FeatureCache(extract(tmp_path_factory.mktemp("views") / "train.h5", made))


@pytest.fixture(scope="module")
def expected(views: FeatureCache) -> np.ndarray:
    """The same by h5py."""
    with h5py.File(views.path) as file:
        dataset = file["features"]
        assert isinstance(dataset, h5py.Dataset)
        return dataset[...]


ROWS = hnp.arrays(
    st.sampled_from([np.int64, np.int32, np.uint64, np.uint8, np.int8]),
    st.integers(0, 50),
    elements=st.integers(0, 29),
)
VIEW = st.none() | st.integers(-4, 3) | st.slices(4)


@given(rows=ROWS, view=VIEW, into=st.booleans(), how=st.sampled_from(["take", "read"]))
def test_rows_equal_numpy_indexing(
    views: FeatureCache, expected: np.ndarray, rows: np.ndarray, view: Any, into: bool, how: str
) -> None:
    wanted = expected[rows][:, slice(None) if view is None else view]
    out = np.empty(wanted.shape, np.float16) if into else None
    taken = getattr(views, how)(rows, view, out)
    assert taken.dtype == np.float16
    assert np.array_equal(taken, wanted)
    assert out is None or taken is out


def test_each_row_may_have_a_view_of_its_own(views: FeatureCache, expected: np.ndarray) -> None:
    rows, view = np.array([3, 29, 3, 0]), np.array([1, 0, -1, 3])
    assert np.array_equal(views.take(rows, view), expected[rows, view])
    assert np.array_equal(views.read(rows, view), expected[rows, view])
    with pytest.raises(IndexError):
        views.take(rows, view + 1)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what is mapped")
def test_released_pages_are_not_mapped_any_more(sample: Path) -> None:
    cache = FeatureCache(sample)
    before = cache.take([7, 2499])
    assert str(sample) in Path("/proc/self/maps").read_text()
    cache.release()
    cache.release()
    assert str(sample) not in Path("/proc/self/maps").read_text()
    assert np.array_equal(cache.take([7, 2499]), before)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what is mapped")
def test_reading_maps_no_pages(sample: Path) -> None:
    cache = FeatureCache(sample)
    assert np.array_equal(cache.read([7, 2499]), FeatureCache(sample).take([7, 2499]))
    assert str(sample) not in Path("/proc/self/maps").read_text()


def test_reading_a_file_that_changed_is_refused(sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "train.h5"
    path.write_bytes(sample.read_bytes())
    cache = FeatureCache(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CacheError, match=r"train\.h5: another file took its place .*, or somebody wrote"):
        cache.read([0, 2499])


def test_take_gives_the_first_view_unless_asked(views: FeatureCache, expected: np.ndarray) -> None:
    assert np.array_equal(views.take([3, 3, 0]), expected[[3, 3, 0], 0])


@pytest.mark.parametrize("rows", [[30], [-1], [0.0], [[0]], 0, [True]])
def test_rows_that_aren_t_there_are_refused(views: FeatureCache, rows: Any) -> None:
    with pytest.raises(IndexError, match="expected a list of integers from 0 to 29"):
        views.take(rows)
    with pytest.raises(IndexError, match="expected a list of integers from 0 to 29"):
        views.verify(rows)


@pytest.mark.parametrize("view", [4, -5])
def test_views_that_aren_t_there_are_refused(views: FeatureCache, view: int) -> None:
    with pytest.raises(IndexError):
        views.take([0], view)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 3, 2, 4), np.float16),
        np.empty((2, 3, 2, 5), np.float32),
        np.empty((2, 3, 5, 2), np.float16).swapaxes(2, 3),
    ],
)
def test_a_buffer_that_doesn_t_fit_is_refused(views: FeatureCache, out: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected a contiguous float16 array of shape \(2, 3, 2, 5\)"):
        views.take([0, 1], out=out)


def test_the_features_are_mapped_and_the_file_can_t_be_changed_through_them(copy: Path) -> None:
    before = copy.read_bytes()
    cache = FeatureCache(copy)
    assert cache.features.flags.writeable  # torch.from_numpy warns otherwise
    assert not cache.features.flags.owndata
    cache.features[:] = 0
    assert cache.take([1]).max() == 0
    assert copy.read_bytes() == before
    assert FeatureCache(copy).take([1]).any()


def first_rows(cache: FeatureCache) -> np.ndarray:
    return cache.take([0, 1, 2499])


def test_worker_processes_read_the_same(sample: Path) -> None:
    cache = FeatureCache(sample)
    here = first_rows(cache)
    there = Parallel(n_jobs=2)(delayed(first_rows)(cache) for _ in range(2))
    assert np.array_equal(np.asarray(there), [here, here])
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert np.array_equal(pool.apply(first_rows, [cache]), here)


def test_a_cache_larger_than_the_memory_is_mapped(tmp_path: Path) -> None:
    """Linux refuses a private map larger than RAM that isn't MAP_NORESERVE; the file here is sparse."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    rows, per_row = 8, 2 * (1 << 20)
    cells = int(4 * memory / rows / per_row) + 1
    made = header(rows, map_shape=(cells, 1024, 1024))
    path = extract(tmp_path / "small.h5", header(rows))  # a header to take apart
    cache = FeatureCache(path)
    _, layout = create(made)
    sparse = tmp_path / "large"
    with sparse.open("wb") as file:
        try:
            file.truncate(layout.end)
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    assert isinstance(cache._store, OneFile)
    object.__setattr__(cache._store.contents, "layout", layout)
    object.__setattr__(cache._store.contents, "header", made)
    held, cache.path = cache._store.file, sparse
    with opened(sparse) as fd:
        held.path, held._id = sparse, _id(fd)
    assert cache.features.shape == made.shape
    assert cache.features[-1, -1, -1, -1, -1] == 0


def test_properties_say_what_was_written(sample: Path) -> None:
    cache, made = FeatureCache(sample), header()
    assert len(cache) == 2500
    assert (cache.blocks, cache.block_rows) == (3, 1024)
    assert repr(cache) == f"FeatureCache('{sample}': float16 (2500, 1, 2, 2, 2))"
    assert cache.classes == ("cat", "dog", "größer")
    assert cache.identity == made.identity
    assert not cache.labels.flags.writeable


def test_five_lines_are_enough(sample: Path) -> None:
    """The use shown in the module's docstring, in a fresh interpreter."""
    code = f"import numpy as np; from cache import FeatureCache; c = FeatureCache({str(sample)!r}); "
    code += "print(c.take(np.array([3, 1, 4])).shape, c.labels[[3, 1, 4]])"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "(3, 2, 2, 2) [0 1 1]\n"
