"""Several files in one range of addresses give the rows of each."""

import itertools
import mmap
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import extract, header
from support.sharded import extract_shards

from cache import CacheError, FeatureCache, write_manifest
from cache.address_range import LARGE_PAGE, slots
from cache.many_files import ManyFiles

SIZES = [(1, 1, 1), (3, 5, 1), (2, 2, 2), (7, 9, 13)]


@given(
    files=st.lists(st.tuples(st.integers(1, 5000), st.integers(1, 1000)), min_size=1, max_size=9),
    row_bytes=st.integers(1, 40_000),
    page=st.sampled_from([512, 4096]),
)
def test_files_get_places_of_their_own_on_pages(
    files: list[tuple[int, int]], row_bytes: int, page: int
) -> None:
    counts, offsets = [count for count, _ in files], [page * pages for _, pages in files]
    found = slots(counts, offsets, row_bytes)
    if found is None:
        assert page < mmap.PAGESIZE
        return
    begins = found * row_bytes
    for begin, offset in zip(begins.tolist(), offsets, strict=True):
        assert (begin - offset) % mmap.PAGESIZE == 0
        assert begin >= offset % mmap.PAGESIZE
    each = [*zip(begins.tolist(), counts, offsets, strict=True)]
    for (begin, count, _), (after, _, offset) in itertools.pairwise(each):
        last_page = -(-(begin + count * row_bytes) // mmap.PAGESIZE)
        assert (after - offset % mmap.PAGESIZE) // mmap.PAGESIZE >= last_page
    if page == 4096 and row_bytes < 4096:
        assert not ((begins - offsets) % LARGE_PAGE).any(), "no large pages"


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("map_shape", SIZES)
@pytest.mark.parametrize("spanning", [True, False])
def test_rows_of_any_size_equal_those_of_one_file(
    tmp_path: Path,
    map_shape: tuple[int, int, int],
    dtype: str,
    spanning: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = header(2500, views=3, map_shape=map_shape, dtype=dtype)
    one = FeatureCache(extract(tmp_path / "one.h5", made))
    many = FeatureCache(extract_shards(tmp_path / "train.json", made, 3))
    if not spanning:
        assert isinstance(many._store, ManyFiles)
        monkeypatch.setattr(many._store._maps, "_slots", None)
    draw = np.random.default_rng(0)
    for rows in ([2499], [1024, 1023], draw.integers(0, 2500, 700)):
        for view in (0, 2, slice(1, 3), None):
            assert np.array_equal(many.take(rows, view), one.take(rows, view))
        many.touch(rows)
    assert np.array_equal(many.features, one.features)
    many.release()
    assert np.array_equal(many.take([7, 2000]), one.take([7, 2000]))


def test_files_that_don_t_begin_with_a_block_are_found(tmp_path: Path) -> None:
    parts = [header(n, paths=[f"{n}/{i}" for i in range(n)], map_shape=(3, 1, 1)) for n in (1500, 7, 300)]
    files = [extract(tmp_path / f"{n}.h5", part) for n, part in enumerate(parts)]
    whole = header(1807, paths=[p for part in parts for p in part.paths], map_shape=(3, 1, 1))
    many = FeatureCache(write_manifest(tmp_path / "train.json", whole, files))
    expected = np.concatenate([FeatureCache(file).features for file in files])
    rows = np.random.default_rng(0).permutation(1807)
    assert np.array_equal(many.take(rows), expected[rows, 0])
    assert np.array_equal(many.features, expected)
    many.verify(rows)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what is mapped")
def test_only_files_that_are_read_are_mapped_and_none_once_released(tmp_path: Path) -> None:
    many = FeatureCache(extract_shards(tmp_path / "train.json", header(), 3))
    many.take([0, 2499])
    mapped = Path("/proc/self/maps").read_text()
    assert [f"0000{i}-of-00003.h5" in mapped for i in range(3)] == [True, False, True]
    features = many.features
    many.release()
    assert features[1500].any()
    del features
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("rows", [[0, 1500], [0, 1500, 2499]], ids=["some files", "all files"])
@pytest.mark.parametrize("how", ["written into", "replaced"])
def test_a_shard_that_changed_while_it_was_open_is_an_error(
    tmp_path: Path, how: str, rows: list[int]
) -> None:
    many = FeatureCache(extract_shards(tmp_path / "train.json", header(), 3))
    many.take(rows)
    shard = tmp_path / "train-00001-of-00003.h5"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    if how == "replaced":
        (tmp_path / "new").write_bytes(data)
        os.replace(tmp_path / "new", shard)
    else:
        with shard.open("r+b") as file:
            file.write(data)
    time.sleep(0.03)
    with pytest.raises(CacheError, match=r"train-00001-of-00003\.h5: another file took its place"):
        many.read(rows)
    if how == "written into":
        with pytest.raises(CacheError, match=r"train-00001-of-00003\.h5: another file took its place"):
            many.take(rows)


def test_very_many_files_are_not_all_held_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.shard_maps.HELD", 2)
    many = FeatureCache(extract_shards(tmp_path / "train.json", header(), 3))
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    assert len(many.take(np.arange(2500))) == 2500
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
    os.utime(tmp_path / "train-00001-of-00003.h5", ns=(1, 1))
    with pytest.raises(CacheError, match=r"train-00001-of-00003\.h5: another file took its place"):
        many.take([1500])
    assert len(many.take([0])) == 1
