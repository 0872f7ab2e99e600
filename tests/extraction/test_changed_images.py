"""A split is never called complete with a file of other images than those that are there now, however it got
its files; and no image is read in vain to know that."""

import dataclasses
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.bitmaps import expected, make_bitmaps, recorded
from support.sharing import config, contents

from cache import FeatureCache, split_path
from pipeline.config import ExtractConfig
from pipeline.datasets.files import FileReader
from pipeline.errors import StaleCacheError
from pipeline.extraction import stage, stamp
from pipeline.extraction.stage import extract
from pipeline.extraction.together import Task

TRAIN, FIRST = 1030, 1024
"""Images of the training split, and of its first file: a block."""
OF_FIRST = "train/a/00007.bmp"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bitmaps(tmp_path_factory.mktemp("images"), TRAIN)


@pytest.fixture(scope="module")
def begun(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first of two files is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stamp, "FRESH_NS", 0)
        return extract(config(images, tmp_path_factory.mktemp("begun"), shard="0/2"))


@pytest.fixture(scope="module")
def whole(images: Path, begun: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stamp, "FRESH_NS", 0)
        cache = shutil.copytree(begun, tmp_path_factory.mktemp("whole") / "c")
        return extract(config(images, cache))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image is read from now on; all are old enough for their stamps to be believed."""
    monkeypatch.setattr(stamp, "FRESH_NS", 0)
    monkeypatch.setattr(stage, "check_parity", lambda *_: 0.0)  # which reads some
    counts, bytes_of = Counter[str](), FileReader.bytes_of
    monkeypatch.setattr(
        FileReader, "bytes_of", lambda self, row: (counts.update([self.paths[row]]), bytes_of(self, row))[1]
    )
    return counts


@pytest.fixture
def change(images: Path) -> Iterator[Callable[..., None]]:
    """Write other pixels into an image of the first file, and `more` behind them."""
    path = images / "photos" / OF_FIRST
    before = path.read_bytes()

    def write(more: bytes = b"") -> None:
        path.write_bytes(before[:-64] + bytes(64) + more)

    yield write
    path.write_bytes(before)


def refused(cache: Path, run: Callable[[], Any]) -> None:
    """Twice, for the first time must not have vouched for it; then follow the advice."""
    said = rf"^(.*): made from another image: the bytes of {OF_FIRST} have changed; delete (\S+)\* or choose"
    with pytest.raises(StaleCacheError, match=said):
        run()
    with pytest.raises(StaleCacheError) as caught:
        run()
    named = re.search(said, str(caught.value))
    assert named
    assert Path(named[1]) == cache / "train-00000-of-00002.h5"
    for path in cache.glob(f"{named[2]}*"):
        path.unlink()
    run()


@pytest.mark.parametrize(("state", "on_bad"), [("begun", "stop"), ("mended", "stop"), ("mended", "skip")])
def test_an_image_that_changed_since_its_file_was_made_stops_the_split_that_is_finished(
    state: str,
    on_bad: Any,
    request: pytest.FixtureRequest,
    images: Path,
    change: Callable[..., None],
    read: Counter[str],
    tmp_path: Path,
) -> None:
    made = request.getfixturevalue("begun" if state == "begun" else "whole")
    cache = shutil.copytree(made, tmp_path / "c")
    (cache / "train-00001-of-00002.h5").unlink(missing_ok=True)
    change()
    refused(cache, lambda: extract(config(images, cache, on_bad_image=on_bad)))
    assert recorded(cache) == expected(images)
    FeatureCache(split_path(cache, "train")).verify()


def test_new_labels_of_a_begun_split_don_t_hide_a_changed_image(
    images: Path, begun: Path, change: Callable[..., None], read: Counter[str], tmp_path: Path
) -> None:
    cache, labels = shutil.copytree(begun, tmp_path / "c"), tmp_path / "labels.csv"
    labels.write_text("image,label\ntrain/a/00003.bmp,b\n")
    before = (cache / "train-00000-of-00002.h5").read_bytes()
    change()
    with pytest.raises(StaleCacheError, match=rf"the bytes of {OF_FIRST} have changed; "):
        extract(config(images, cache, labels=str(labels)))
    assert (cache / "train-00000-of-00002.h5").read_bytes() == before


def test_an_image_that_changed_since_it_was_listed_stops_its_worker(
    images: Path, change: Callable[..., None], read: Counter[str], tmp_path: Path
) -> None:
    """Also one of another size, by which it would be told without the list."""
    for shard in ("list", "0/2"):
        extract(config(images, tmp_path, shard=shard))
    change(b"more")
    refused(tmp_path, lambda: extract(config(images, tmp_path, shard="0/2")))
    extract(config(images, tmp_path, shard="1/2"))
    extract(config(images, tmp_path))
    assert recorded(tmp_path) == expected(images)
    anew = extract(config(images, tmp_path / "anew"))
    assert contents(tmp_path / "train.json") == contents(anew / "train.h5")


def test_workers_vouch_for_no_cache_that_is_whole(
    images: Path,
    change: Callable[..., None],
    read: Counter[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They are started for the other split, and haven't compared its images."""
    extract(config(images, tmp_path))
    for left in tmp_path.glob("test.h5*"):
        left.unlink()
    change()
    monkeypatch.setattr(stage, "together", one_by_one)
    extract(config(images, tmp_path, workers=2))
    extract(config(images, tmp_path))
    found = FeatureCache(tmp_path / "train.json")
    assert [bytes(row) for row in found.image_digests] == expected(images)


def one_by_one(settings: ExtractConfig, jobs: object, workers: int, task: Task) -> Iterator[str]:
    """As `together`, in this process."""
    return (task(settings, rank, workers) for rank in range(workers))


def test_a_worker_reads_the_images_of_its_own_share_and_those_once(
    images: Path, begun: Path, read: Counter[str], tmp_path: Path
) -> None:
    """Not even these where sizes and times are those of when its file was made."""
    cache = shutil.copytree(begun, tmp_path / "c")
    extract(config(images, cache, shard="0/2"))
    read.clear()
    extract(config(images, cache, shard="0/2"))
    assert not read
    extract(config(images, cache, shard="0/2", rehash=True))
    names = {path for path in read if path.startswith("train")}
    assert names == {*FeatureCache(cache / "train-00000-of-00002.h5").paths}
    assert set(read.values()) == {1}
    read.clear()
    extract(config(images, cache, shard="1/2"))
    assert len(read) == TRAIN - FIRST
    assert not read.keys() & names


def test_to_mend_one_file_the_images_of_the_others_aren_t_read(
    images: Path,
    whole: Path,
    read: Counter[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stamp of the whole split says that they are as they were, and which one was left out; workers
    know it too."""
    bad, cache = images / "photos/train/a/00000 bad.bmp", tmp_path / "c"
    bad.write_bytes(b"no image")
    request.addfinalizer(bad.unlink)
    skipping = config(images, cache, on_bad_image="skip", shards=2)
    extract(skipping)
    (cache / "train-00001-of-00002.h5").unlink()
    read.clear()
    monkeypatch.setattr(stage, "together", one_by_one)
    extract(dataclasses.replace(skipping, workers=2))
    assert len(read) == TRAIN - FIRST
    assert contents(cache / "train.json")["features"] == contents(whole / "train.json")["features"]


def test_a_stamp_of_another_split_or_of_another_file_of_it_is_worth_nothing(
    images: Path, whole: Path, change: Callable[..., None], read: Counter[str], tmp_path: Path
) -> None:
    """Such as those of another day, put beside a file that was damaged."""
    cache, path = shutil.copytree(whole, tmp_path / "c"), images / "photos" / OF_FIRST
    its_stamp = shutil.copytree(whole, tmp_path / "its stamp")
    before = path.read_bytes()
    change()
    other = extract(config(images, tmp_path / "other", shards=2))
    shutil.copy(other / "train.h5.stamp", its_stamp)
    (its_stamp / "train-00001-of-00002.h5").unlink()
    with pytest.raises(StaleCacheError, match=rf"the bytes of {OF_FIRST} have changed; "):
        extract(config(images, its_stamp))
    path.write_bytes(before)
    extract(config(images, cache))
    shutil.copy(other / "train-00000-of-00002.h5", cache)
    (cache / "train-00001-of-00002.h5").unlink()
    refused(cache, lambda: extract(config(images, cache)))
    assert contents(cache / "train.json") == contents(whole / "train.json")


def test_an_image_in_files_of_two_layers_is_read_once(
    images: Path, change: Callable[..., None], read: Counter[str], tmp_path: Path
) -> None:
    both = config(images, tmp_path, shard="0/2")
    both = dataclasses.replace(both, trunk=f"{images / 'trunk.py'}:trunk@0,1")
    extract(both)
    for left in tmp_path.glob("*/train*.stamp"):
        left.unlink()
    read.clear()
    extract(both)
    assert len(read) == FIRST
    assert set(read.values()) == {1}
    change()
    with pytest.raises(StaleCacheError, match=rf"the bytes of {OF_FIRST} have changed; "):
        extract(both)
