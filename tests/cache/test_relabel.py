"""Other labels for the features that are there, in a finished cache and in an unfinished one."""

import os
from pathlib import Path

import numpy as np
import pytest
from support.samples import BLOCKS, extract, fill, header

from cache import CacheError, CacheWriter, FeatureCache, relabel, split_path, write_manifest

RELABELLED = {
    "labels": {"labels": np.arange(2500)[::-1] % 3},
    "classes": {"classes": ["a much longer name than before, so that offsets move", "dog", "x"]},
    "more classes": {"classes": [f"class {i}" for i in range(2000)], "labels": np.arange(2500) % 2000},
}


@pytest.mark.parametrize("change", RELABELLED)
def test_other_labels_keep_the_features(change: str, copy: Path, tmp_path: Path) -> None:
    made = header(**RELABELLED[change])
    assert CacheWriter.status(copy, made) == "relabel"
    old = FeatureCache(copy)
    mapped = old.features[5:8].copy(), old.features
    assert relabel(copy, made) == copy
    assert CacheWriter.status(copy, made) == "complete"
    assert os.listdir(copy.parent) == ["train.h5"]
    assert np.array_equal(mapped[0], mapped[1][5:8])  # whoever has the old file mapped keeps it
    fresh = extract(tmp_path / "fresh" / "train.h5", made)
    assert copy.read_bytes() == fresh.read_bytes()


def test_a_file_that_another_split_lists_keeps_its_bytes(copy: Path) -> None:
    """Images that moved from one split to the other are looked for in its file."""
    other = write_manifest(copy.with_name("test.json"), header(5), [copy], np.arange(5))
    bytes_before, made = copy.read_bytes(), header(**RELABELLED["classes"])
    path = relabel(copy, made)
    assert path == split_path(copy.parent, "train") == copy.with_suffix(".json")
    assert copy.read_bytes() == bytes_before
    assert FeatureCache(path).classes == tuple(made.classes)
    for cache in (path, other):
        FeatureCache(cache).verify()


def test_relabelling_keeps_the_notes_which_are_about_the_features(copy: Path) -> None:
    relabel(copy, header(labels=np.zeros(2500, int), notes={"skipped": []}))
    assert FeatureCache(copy).notes == header().notes
    assert FeatureCache(copy).labels.max() == 0


def test_relabelling_doesn_t_pass_damage_on(copy: Path) -> None:
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    with pytest.raises(CacheError, match=r"block 2 \(rows 2048 to 2499\) doesn't match its digest"):
        relabel(copy, header(labels=np.zeros(2500, int)))
    assert copy.read_bytes() == bytes(data)


def test_relabelling_what_isn_t_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"train\.h5: can't be opened: No such file"):
        relabel(tmp_path / "train.h5", header(3))
    assert not list(tmp_path.iterdir())


def test_an_unfinished_cache_goes_on_under_other_labels(tmp_path: Path) -> None:
    path, made = tmp_path / "train.h5", header(**RELABELLED["more classes"])
    extract(path, header(), stop_after=2)
    assert CacheWriter.status(path, made) == "partial"
    with CacheWriter(path, made) as writer:
        assert writer.missing == [BLOCKS[2]]
        fill(writer, made, writer.missing)
        writer.publish()
    fresh = extract(tmp_path / "fresh" / "train.h5", made)
    assert path.read_bytes() == fresh.read_bytes()


def test_new_labels_need_room_for_a_copy_and_finished_or_begun_caches_need_none(
    sample: Path, tmp_path: Path
) -> None:
    old, new, path = header(), header(classes=["a", "b", "c"]), tmp_path / "train.h5"
    for rows in (3, 2500):
        size = extract(tmp_path / f"{rows}.h5", header(rows)).stat().st_size
        assert size - 12_288 < header(rows).nbytes <= size  # all but HDF5's structures
    states = [(path, old, old.nbytes), (sample, old, 0), (sample, new, new.nbytes)]
    for place, made, needed in states:
        assert CacheWriter.bytes_needed(place, made, CacheWriter.status(place, made)) == needed
    extract(path, old, stop_after=1)
    for made, needed in ((old, 0), (new, new.nbytes)):
        assert CacheWriter.status(path, made) == "partial"
        assert CacheWriter.bytes_needed(path, made, "partial") == needed
