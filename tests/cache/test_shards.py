"""A split of several files against the same split in one file."""

import dataclasses
import pickle
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.samples import extract, features, fill, header, image_digests
from support.sharded import extract_shards

from cache import (
    CacheError,
    CacheHeader,
    CacheWriter,
    FeatureCache,
    Paths,
    shard_header,
    shard_paths,
    shard_ranges,
    split_path,
    write_manifest,
)

COUNTS = [1, 2, 5]


@pytest.fixture(scope="module", params=COUNTS)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """4,500 rows of three views in one file, and in 1, 2 or 5 files."""
    made = header(4500, views=3)
    folder = tmp_path_factory.mktemp(f"shards-{request.param}")
    one = extract(tmp_path_factory.mktemp("one") / "train.h5", made)
    return one, extract_shards(folder / "train.json", made, request.param)


def test_a_manifest_is_written_with_the_arrays_of_one_file_at_a_time(tmp_path: Path) -> None:
    made = header(12 * 1024)
    made = dataclasses.replace(made, paths=Paths(f"{path:160}" for path in made.paths))
    path = extract_shards(tmp_path / "train.json", made, 12)
    tracemalloc.start()
    write_manifest(path, made, shard_paths(path, 12))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(Paths.of(made.paths).data)


def test_images_that_were_renamed_need_no_new_shards(tmp_path: Path) -> None:
    made = header(2048)
    path = extract_shards(tmp_path / "train.json", made, 2)
    renamed = dataclasses.replace(made, paths=Paths(f"new/{name}" for name in made.paths))
    before = FeatureCache(path).take(range(2048))
    write_manifest(path, renamed, shard_paths(path, 2))
    assert FeatureCache(path).paths == renamed.paths
    assert np.array_equal(FeatureCache(path).take(range(2048)), before)


@given(rows=st.integers(1, 200_000), count=st.integers(1, 300))
def test_shards_hold_whole_blocks_and_all_rows_once(rows: int, count: int) -> None:
    ranges = shard_ranges(rows, count)
    assert len(ranges) == min(count, -(-rows // 1024))
    assert ranges[0].start == 0
    assert ranges[-1].stop == rows
    assert all(a.stop == b.start for a, b in pairwise(ranges))
    assert all(r.start % 1024 == 0 and len(r) for r in ranges)
    blocks = [-(-len(r) // 1024) for r in ranges]
    assert max(blocks) - min(blocks) <= 1


def test_shards_have_names_in_the_folder_of_the_split() -> None:
    names = [path.as_posix() for path in shard_paths("c/train.json", 3)]
    assert names == [f"c/train-0000{i}-of-00003.h5" for i in range(3)]
    assert shard_paths("c/train.h5", 3) == shard_paths("c/train.json", 3)


def test_several_files_equal_one(both: tuple[Path, Path]) -> None:
    one, many = map(FeatureCache, both)
    for name in ("shape", "dtype", "classes", "identity", "notes", "key", "images_digest", "multi_label"):
        assert getattr(one, name) == getattr(many, name), name
    assert np.array_equal(one.labels, many.labels)
    assert not many.labels.flags.writeable
    assert one.paths == many.paths
    assert np.array_equal(one.image_digests, many.image_digests)
    assert np.array_equal(one.features, many.features)
    assert len(one) == len(many)
    many.verify()


def test_any_rows_and_views_equal_those_of_one_file(both: tuple[Path, Path]) -> None:
    one, many = map(FeatureCache, both)
    draw = np.random.default_rng(0)
    for rows in (draw.integers(0, 4500, 300), np.arange(4500), np.array([4499]), np.array([], int)):
        for view in (0, 2, -1, slice(1, 3), slice(None), None, draw.integers(0, 3, len(rows))):
            for how in ("take", "read"):
                assert np.array_equal(getattr(one, how)(rows, view), getattr(many, how)(rows, view))
    many.release()
    assert np.array_equal(one.take([0, 4499]), many.take([0, 4499]))
    many.verify([0, 1500, 4499])


def test_a_copy_of_several_files_reads_the_same(both: tuple[Path, Path]) -> None:
    one, many = map(FeatureCache, both)
    assert np.array_equal(pickle.loads(pickle.dumps(many)).take([4000, 3]), one.take([4000, 3]))
    assert np.array_equal(many[[4000, 3]].features, one[[4000, 3]].features)


def test_the_same_shards_give_the_same_manifest_and_leave_it_untouched(both: tuple[Path, Path]) -> None:
    _, many = both
    before, times = many.read_bytes(), many.stat()
    found = sorted(many.parent.glob("*.h5"))
    write_manifest(many, header(4500, views=3), found)
    assert (many.read_bytes(), many.stat().st_mtime_ns) == (before, times.st_mtime_ns)


def grown(folder: Path) -> tuple[Path, CacheHeader, np.ndarray]:
    """Two files of 1,500 and 700 rows, and a split of 1,900 of them in another order, with new labels."""
    old, new = header(1500), header(700, paths=[f"new/{i}.png" for i in range(700)])
    extract(folder / "train.h5", old)
    with CacheWriter(folder / "train-new.h5", new) as writer:
        for rows in writer.missing:
            moved = range(rows.start + 5000, rows.stop + 5000)
            writer.write(rows, features(new, moved), image_digests(moved))
        writer.publish()
    rows = np.random.default_rng(1).permutation(2200)[:1900]
    names = [*Paths.of(old.paths), *Paths.of(new.paths)]
    whole = header(1900, paths=[names[row] for row in rows], labels=rows % 4, classes=["a", "b", "c", "d"])
    made = write_manifest(folder / "train.json", whole, [folder / "train.h5", folder / "train-new.h5"], rows)
    return made, whole, rows


def test_a_row_index_gives_rows_of_any_place_in_its_order(tmp_path: Path) -> None:
    path, whole, rows = grown(tmp_path)
    anew = tmp_path / "anew.h5"
    place = np.where(rows < 1500, rows, rows + 3500)
    with CacheWriter(anew, whole) as writer:
        for block in writer.missing:
            some = [range(p, p + 1) for p in place[block.start : block.stop].tolist()]
            writer.write(
                block,
                np.concatenate([features(whole, one) for one in some]),
                np.concatenate([image_digests(one) for one in some]),
            )
        writer.publish()
    one, many = FeatureCache(anew), FeatureCache(path)
    assert (one.key, one.images_digest, one.classes) == (many.key, many.images_digest, many.classes)
    assert one.paths == many.paths
    assert np.array_equal(one.labels, many.labels)
    assert np.array_equal(one.image_digests, many.image_digests)
    assert np.array_equal(one.features, many.features)
    for index in ([0, 1899, 7], np.arange(1900)):
        assert np.array_equal(one.take(index), many.take(index))
        assert np.array_equal(one.read(index), many.read(index))
    many.verify([5, 1800])
    many.verify()


def test_new_labels_and_names_need_no_new_features(tmp_path: Path) -> None:
    made = header(3000)
    path = extract_shards(tmp_path / "train.json", made, 2)
    files = sorted(tmp_path.glob("*.h5"))
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    changed = header(3000, labels=(np.arange(3000) + 1) % 2, classes=["x", "y"])
    write_manifest(path, changed, files)
    many = FeatureCache(path)
    assert many.labels.tolist() == changed.labels.tolist()
    assert (many.key, many.classes) == (made.key, ("x", "y"))
    many.verify()
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before
    write_manifest(path, made, files)
    assert FeatureCache(path).labels.tolist() == made.labels.tolist()
    assert sorted(tmp_path.iterdir()) == [*files, path], "an index that nobody needs was left"


def test_the_split_of_a_folder_is_the_manifest_or_the_file(tmp_path: Path) -> None:
    assert split_path(tmp_path, "train") == tmp_path / "train.h5"
    made, _, _ = grown(tmp_path)
    assert split_path(str(tmp_path), "train") == made
    write_manifest(made, header(1500), [tmp_path / "train.h5"])
    assert split_path(tmp_path, "train") == made
    one = extract(tmp_path / "test.h5", header(5))
    assert split_path(tmp_path, "test") == one
    extract_shards(tmp_path / "test.json", header(5), 1)
    with pytest.raises(CacheError, match=r"test\.json and test\.h5: two caches of one split"):
        split_path(tmp_path, "test")


def test_a_manifest_of_other_files_is_not_written(tmp_path: Path) -> None:
    made = header(3000)
    paths = shard_paths(tmp_path / "train.json", 2)
    ranges = shard_ranges(3000, 2)
    for path, rows in zip(paths, ranges, strict=True):
        with CacheWriter(path, shard_header(made, rows)) as writer:
            fill(writer, shard_header(made, rows), writer.missing)
            writer.publish()
    other = header(3000, identity={"trunk": "another"})
    for wanted, shards, problem in [
        (made, paths[:1], "expected 3,000 rows in its shards, found 2,048"),
        (other, paths, "train-00000-of-00002.h5: no shard of this cache: made from something else: "),
        (made, [paths[0], tmp_path / "gone.h5"], "gone.h5: can't be opened: No such file"),
        (made, [], "needs at least one shard"),
    ]:
        with pytest.raises(CacheError, match=problem):
            write_manifest(tmp_path / "train.json", wanted, shards)
        assert not (tmp_path / "train.json").exists()
