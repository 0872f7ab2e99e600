"""Caches of images with any number of labels: the file as FORMAT.md has it, relabelling, and kills."""

import hashlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import xxhash
from support import faults
from support.building import datasets
from support.faults import count_calls, interrupted, spawn, wait
from support.samples import extract, header, several_labels
from support.tally import Tally

from cache import CacheWriter, FeatureCache, relabel
from cache.__main__ import main

SINGLE = header()
MULTI = header(labels=several_labels())
MORE_CLASSES = header(labels=several_labels(classes=700), classes=[f"class {i}" for i in range(700)])
CHANGES = {
    "to multi-label": (SINGLE, MULTI),
    "to single-label": (MULTI, SINGLE),
    "to more classes": (MULTI, MORE_CLASSES),
    "to single-label of few classes": (MORE_CLASSES, SINGLE),
    "one entry": (MULTI, header(labels=np.where(np.arange(7500).reshape(-1, 3) == 7499, 0, MULTI.labels))),
}


@pytest.fixture(scope="module")
def multi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample with any number of labels to an image. Not to be changed."""
    return extract(tmp_path_factory.mktemp("multi") / "train.h5", MULTI)


def test_h5py_reads_a_column_for_each_class(multi: Path) -> None:
    with datasets(multi) as file:
        labels = file["labels"]
        assert (labels.shape, labels.dtype.str, labels.maxshape, labels.chunks) == (
            (2500, 3),
            "|i1",
            (2500, 3),
            None,
        )
        assert np.array_equal(labels[...], several_labels())
        assert set(np.unique(labels)) == {-1, 0, 1}
        raw = labels.id.get_offset()
    assert multi.read_bytes()[raw : raw + 7500] == several_labels().tobytes()


def test_the_reader_gives_what_h5py_gives(multi: Path, sample: Path) -> None:
    for path, many in ((multi, True), (sample, False)):
        cache = FeatureCache(path)
        with datasets(path) as file:
            assert np.array_equal(cache.labels, file["labels"][...])
        assert cache.labels.dtype == ("int8" if many else "int64")
        assert cache.multi_label == many
        assert not cache.labels.flags.writeable
        cache.verify()


def test_the_header_s_digest_covers_the_kind_of_labels(multi: Path, sample: Path) -> None:
    for path, shape in ((multi, "2500,3 1"), (sample, "2500 8")):
        text = b"ten-crop-cache/1\nfeatures float16 2500,1,2,2,2\n"
        with datasets(path) as file:
            text += f"labels {shape}\n".encode() + file["labels"][...].tobytes()
            for name in ("paths", "classes", "provenance"):
                d = file[name]
                text += f"{name} {len(d)} {d.dtype.itemsize}\n".encode() + d[...].tobytes()
            assert file["header_digests"][:16].tobytes() == xxhash.xxh3_128(text).digest()


def test_golden_labels_of_a_small_file(tmp_path: Path) -> None:
    labels = np.array([[1, 0, -1], [0, 0, 0], [1, 1, 1]])
    path = extract(tmp_path / "train.h5", header(3, labels=labels, identity={"a": 1}, notes={}))
    with datasets(path) as file:
        assert file["labels"][...].tobytes() == b"\1\0\xff\0\0\0\1\1\1"
        names = ("labels", "paths", "classes", "provenance", "header_digests")
        contents = hashlib.sha256(b"".join(file[name][...].tobytes() for name in names)).hexdigest()
    assert contents == "e8fdde748406ce403bb21e117ed274adc89416d5f8251bda9d3485eb8fa66884"


def test_equal_labels_give_equal_bytes_however_they_came(multi: Path, tmp_path: Path) -> None:
    given = [several_labels().astype(">i4"), np.asfortranarray(several_labels())]
    for i, labels in enumerate(given):
        path = extract(tmp_path / str(i) / "train.h5", header(labels=labels))
        assert path.read_bytes() == multi.read_bytes()


def test_one_column_is_not_one_label(tmp_path: Path) -> None:
    """[N, 1] and [N] hold as many zeros; they are two kinds, and each is refused the other's name."""
    column = header(3, classes=["a"], labels=np.zeros((3, 1), int))
    single = header(3, classes=["a"], labels=np.zeros(3, int))
    assert not column.labelled_like(single)
    path = extract(tmp_path / "train.h5", column)
    assert CacheWriter.status(path, single) == "relabel"
    assert FeatureCache(path).labels.shape == (3, 1)
    assert FeatureCache(relabel(path, single)).labels.shape == (3,)


def test_the_key_ignores_the_kind_of_labels() -> None:
    assert SINGLE.key == MULTI.key == MORE_CLASSES.key


@pytest.mark.parametrize("change", CHANGES)
def test_relabelling_keeps_the_features(change: str, tmp_path: Path) -> None:
    old, new = CHANGES[change]
    path = extract(tmp_path / "train.h5", old)
    assert CacheWriter.status(path, new) == "relabel"
    assert relabel(path, new) == path
    assert CacheWriter.status(path, new) == "complete"
    fresh = extract(tmp_path / "fresh" / "train.h5", new)
    assert path.read_bytes() == fresh.read_bytes()


@pytest.mark.parametrize("change", CHANGES)
def test_an_unfinished_cache_goes_on_with_the_new_labels(change: str, tmp_path: Path) -> None:
    old, new = CHANGES[change]
    path = extract(tmp_path / "train.h5", old, stop_after=2)
    with CacheWriter(path, new) as writer:
        assert writer.missing == [range(2048, 2500)]
    extract(path, new)
    fresh = extract(tmp_path / "fresh" / "train.h5", new)
    assert path.read_bytes() == fresh.read_bytes()


@pytest.mark.fault
@pytest.mark.parametrize("begun", [False, True], ids=["from nothing", "from an unfinished single-label one"])
def test_a_kill_at_every_call_leaves_what_the_next_run_goes_on_with(
    begun: bool, tmp_path: Path, tally: Tally
) -> None:
    """Two blocks, of which the unfinished one has the first."""
    single, made = header(1030), header(1030, labels=several_labels(1030))
    expected = extract(tmp_path / "whole.h5", made).read_bytes()

    def prepared(name: str) -> Path:
        path = tmp_path / name / "train.h5"
        return extract(path, single, stop_after=1) if begun else path

    counted = prepared("count")
    for at in range(count_calls(lambda: extract(counted, made))):
        path = prepared(str(at))

        def killed(at: int = at, path: Path = path) -> None:
            with interrupted(at, faults.kill_myself):
                extract(path, made)

        with tally("multi-label: SIGKILL at the k-th pwrite, fsync, rename …, every k"):
            assert wait(spawn(killed)) == -signal.SIGKILL
            if CacheWriter.status(path, made) != "complete":
                extract(path, made)
            assert os.listdir(path.parent) == ["train.h5"]
            assert path.read_bytes() == expected, f"call {at}"


def test_command_says_how_many_labels_an_image_has(multi: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["info", str(multi)]) == 0
    mean = (several_labels() == 1).sum() / 2500
    expected = f'classes: 3, multi-label, {mean:.1f} labels per image, ["cat","dog",'
    assert expected in capsys.readouterr().out
