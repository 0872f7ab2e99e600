"""Folders that can't be a dataset, or not be read or written: one line that names what to mend."""

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.folders import fill, open_folder, refusal, write
from support.nobody import as_nobody

from cache import CacheError, CacheHeader, CacheWriter
from pipeline.datasets.base import open_dataset
from pipeline.errors import ConfigError, DataError

pytestmark = pytest.mark.fault("folder: links, permissions, names, empty, one class …")


def test_a_link_to_its_own_ancestor_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    (tmp_path / "a/loop").symlink_to(tmp_path / "a")
    assert "a/loop: expected a folder, found a link to one that holds it" in refusal(tmp_path)
    (tmp_path / "a/loop").unlink()
    (tmp_path / "a/up").symlink_to(tmp_path)
    assert "a/up/a: expected a folder, found a link to one that holds it" in refusal(tmp_path)


@pytest.mark.parametrize("target", ["nowhere.png", "x.png"])
def test_a_link_to_nothing_or_to_itself_is_refused(tmp_path: Path, target: str) -> None:
    fill(tmp_path, ["a", "b"])
    (tmp_path / "a/x.png").symlink_to(target)
    assert "a/x.png: can't be read" in refusal(tmp_path)


def test_what_is_called_an_image_but_is_no_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, ["a", "b"])
    os.mkfifo(tmp_path / "a/pipe.png")
    assert "pipe.png: expected a file" in refusal(tmp_path)
    (tmp_path / "a/pipe.png").unlink()
    monkeypatch.chdir(tmp_path / "a")  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.png")
        assert "s.png: expected a file" in refusal(tmp_path)


def test_missing_folders_files_and_overlong_paths_are_named(tmp_path: Path) -> None:
    assert "nowhere" in refusal(tmp_path / "nowhere")
    assert "x.png" in refusal(write(tmp_path / "x.png"))
    assert "can't be read" in refusal(tmp_path / ("n" * 5000))
    with pytest.raises(ConfigError, match="folder:PATH"):
        open_dataset("folder")
    with pytest.raises(ConfigError, match="folder:PATH"):
        open_dataset("folder:")


def test_a_folder_or_an_image_without_permission_is_named(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    (tmp_path / "b").chmod(0o700 if os.geteuid() == 0 else 0)
    assert "b: can't be read: Permission denied" in as_nobody(tmp_path, lambda: refusal("."))
    (tmp_path / "b").chmod(0o755)

    def read_all() -> str:
        for split in open_folder(".").values():
            for row in range(len(split)):
                try:
                    split.images.read(row)
                except DataError as error:
                    return str(error)
        return "nothing"

    (tmp_path / "b/01.png").chmod(0o600 if os.geteuid() == 0 else 0)
    assert as_nobody(tmp_path, read_all) == "./b/01.png: can't be read: Permission denied"


def test_a_folder_that_may_only_be_read_works(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.chmod(0o555)

    def read() -> str:
        return str(open_folder(".")["train"].images.read(0).pixels.shape)

    assert as_nobody(tmp_path, read) == "(5, 6, 3)"
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.chmod(0o755)


def test_a_cache_s_folder_that_may_only_be_read_is_named(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"dtype": "float32", "labels": np.zeros(1, int), "classes": ["a"]}
    header = CacheHeader(shape=(1, 1, 1, 1, 1), paths=["a.png"], identity={}, **fields)
    (tmp_path / "cache").mkdir(mode=0o555)

    def write_there() -> str:
        with pytest.raises(CacheError) as caught, CacheWriter("cache/train.h5", header):
            pass
        return str(caught.value)

    said = as_nobody(tmp_path, write_there)
    assert said.startswith("cache/train.h5: can't be written: Permission denied; fix that")
    (tmp_path / "cache").chmod(0o755)


def test_too_few_classes_and_empty_ones_are_refused(tmp_path: Path) -> None:
    assert "at least two, found none" in refusal(tmp_path)
    write(tmp_path / "loose.png")
    assert "at least two, found none" in refusal(tmp_path)
    fill(tmp_path, ["only"])
    assert "at least two, found one: only" in refusal(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/notes.txt").write_text("")
    (tmp_path / "also empty/@eaDir").mkdir(parents=True)
    said = "found none in also empty, empty (not used: 1 .png outside of the classes, 1 .txt, 1 @eaDir/); put"
    assert f"{tmp_path}/: expected images" in refusal(tmp_path)
    assert said in refusal(tmp_path)


def test_classes_that_differ_between_the_splits_are_named(tmp_path: Path) -> None:
    fill(tmp_path / "train", ["a", "b", "c"])
    fill(tmp_path / "test", ["a", "b"])
    assert "only in train/: c" in refusal(tmp_path)
    fill(tmp_path / "test", ["c", *(f"x{i}" for i in range(7))])
    assert "only in test/: x0, x1, x2, x3, x4 and 2 more" in refusal(tmp_path)


def test_a_split_without_its_partner_is_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train", ["a", "b"])
    (tmp_path / "test").mkdir()
    assert "add the missing split" in refusal(tmp_path)
    (tmp_path / "test").rmdir()
    fill(tmp_path / "labels", ["a", "b"])
    assert "add the missing split" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("names", "below"),
    [
        (("train", "test"), ""),
        (("Train", "Test"), ""),
        (("Train", "Test"), "a"),
        (("training", "testing"), "a"),
    ],
)
def test_splits_are_not_taken_for_classes(tmp_path: Path, names: tuple[str, str], below: str) -> None:
    """Images right in train/ and test/, or these in other spelling: no classes of these names are meant."""
    for name in names:
        fill(tmp_path / name, [below], 12)
    assert f"expected class folders in train/ and in test/ or val/, found {' and '.join(sorted(names))}" in (
        refusal(tmp_path)
    )


def test_a_split_that_leaves_nothing_to_test_on_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"], 1)
    assert "--test-fraction" in refusal(tmp_path)
    fill(tmp_path, ["a", "b"], 3)
    assert "--test-fraction" in refusal(tmp_path, test_fraction=0)
    assert len(open_folder(tmp_path, test_fraction=0.95)["train"]) == 2


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="macOS has UTF-8 names only")
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    with open(os.fsencode(tmp_path) + b"/a/\xff.png", "wb"):
        pass
    assert "not UTF-8" in refusal(tmp_path)


def test_a_file_that_went_away_is_named_when_it_is_read(tmp_path: Path) -> None:
    train = open_folder(fill(tmp_path, ["a", "b"]))["train"]
    (tmp_path / train.paths[1]).unlink()
    with pytest.raises(DataError, match=f"{train.paths[1]}: can't be read: No such file"):
        train.images.read(1)
    with pytest.raises(DataError, match=train.paths[1]):
        train.images.digest(1)


def test_a_folder_around_the_classes_and_a_path_without_its_kind_are_refused_with_what_works(
    tmp_path: Path,
) -> None:
    fill(tmp_path / "around/photos", ["a", "b"])
    said = refusal(tmp_path / "around")
    assert said.endswith(f"found one: photos; the classes are in it? Name {tmp_path}/around/photos")
    plain = f"{tmp_path}/around/photos"
    with pytest.raises(ConfigError, match="did you mean folder:") as caught:
        open_dataset(plain)
    assert len(open_dataset(str(caught.value).split("mean ")[1][:-1], test_fraction=0.34)["train"]) == 4
    (tmp_path / "t.csv").touch()
    with pytest.raises(ConfigError, match=rf"did you mean csv:{tmp_path}/t\.csv\?"):
        open_dataset(f"{tmp_path}/t.csv")


def test_val_as_the_test_split_is_said(tmp_path: Path) -> None:
    for part in ("train", "val"):
        fill(tmp_path / part, ["a", "b"])
    said = f"{tmp_path}/val/ is the test split, as there is no test/"
    assert said in open_folder(tmp_path)["train"].remarks
    fill(tmp_path / "test", ["a", "b"])
    assert not open_folder(tmp_path)["train"].remarks
