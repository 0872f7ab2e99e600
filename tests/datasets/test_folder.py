"""Folders of images as they are found in the world: read in a fixed order, or refused in one line."""

import os
import socket
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from xxhash import xxh3_128_digest

from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import ConfigError, DataError, UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)


def write(path: Path, value: int = 0) -> Path:
    """An image that differs by `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(PIXELS ^ np.uint8(value)).save(path, "PNG")
    return path


def fill(root: Path, names: Iterable[str], count: int = 3) -> Path:
    for name in names:
        for i in range(count):
            write(root / name / f"{i:02}.png", i)
    return root


def open_folder(root: Path | str, **options: float) -> dict[str, ImageSplit]:
    return open_dataset(f"folder:{root}", **options)  # type: ignore[arg-type]


def refusal(root: Path | str, **options: float) -> str:
    with pytest.raises(UserError) as caught:
        open_folder(root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("test_name", ["test", "val", "valid", "validation"])
def test_two_splits_are_found_sorted_and_labelled(tmp_path: Path, test_name: str) -> None:
    for name in ("train", test_name):
        fill(tmp_path / name, ["dog", "Cat", "ant"], 2)
    splits = open_folder(tmp_path)
    for split, name in zip(("train", "test"), ("train", test_name), strict=True):
        found = splits[split]
        assert (found.split, found.classes) == (split, ("Cat", "ant", "dog"))
        expected = [f"{name}/{c}/{i:02}.png" for c in found.classes for i in range(2)]
        assert list(found.paths) == expected
        assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert found.labels.dtype == found.sizes.dtype == np.int64
        assert found.sizes.tolist() == [(tmp_path / p).stat().st_size for p in expected]


def test_test_wins_over_val(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        fill(tmp_path / name, ["a", "b"])
    assert {p.split("/")[0] for p in open_folder(tmp_path)["test"].paths} == {"test"}


def test_reading_gives_the_pixels_and_the_digest_of_the_file(tmp_path: Path) -> None:
    train = open_folder(fill(tmp_path, ["a", "b"], 4))["train"]
    for row, path in enumerate(train.paths):
        image = train.images.read(row)
        np.testing.assert_array_equal(image.pixels, PIXELS ^ np.uint8(int(Path(path).stem)))
        assert image.digest == xxh3_128_digest((tmp_path / path).read_bytes()) == train.images.digest(row)


@pytest.mark.parametrize("below", ["", "train"])
def test_one_folder_of_classes_is_split_by_class_and_seed(tmp_path: Path, below: str) -> None:
    fill(tmp_path / below, ["a", "b"], 10)
    fill(tmp_path / below, ["lone"], 1)
    splits = open_folder(tmp_path, test_fraction=0.3, seed=1)
    train, test = splits["train"], splits["test"]
    assert np.bincount(train.labels, minlength=3).tolist() == [7, 7, 1]
    assert np.bincount(test.labels, minlength=3).tolist() == [3, 3, 0]
    assert train.classes == test.classes == ("a", "b", "lone")
    assert sorted(train.paths + test.paths) == sorted(
        p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")
    )
    assert list(train.paths) == sorted(train.paths)
    again = open_folder(tmp_path, test_fraction=0.3, seed=1)
    assert again["test"].paths == test.paths
    assert open_folder(tmp_path, test_fraction=0.3, seed=2)["test"].paths != test.paths


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    assert open_folder(fill(tmp_path, ["bus", "test", "train"]))["train"].classes == ("bus", "test", "train")


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    fill(tmp_path, ["a/x", "a/y/z", "b"], 2)
    splits = open_folder(tmp_path, test_fraction=0.5)
    paths = sorted(splits["train"].paths + splits["test"].paths)
    assert paths[:4] == ["a/x/00.png", "a/x/01.png", "a/y/z/00.png", "a/y/z/01.png"]


def test_hidden_files_are_passed_over_and_others_counted(tmp_path: Path) -> None:
    fill(tmp_path / "train", ["a", "b"], 2)
    fill(tmp_path / "test", ["a", "b"], 2)
    (tmp_path / "train/a/.00.png").write_bytes(b"")
    (tmp_path / "train/.git/x").mkdir(parents=True)
    (tmp_path / "train/a/Thumbs.db").write_bytes(b"")
    (tmp_path / "train/b/README.txt").write_bytes(b"")
    write(tmp_path / "train/b/LOUD.JPEG")
    train = open_folder(tmp_path)["train"]
    assert len(train) == 5
    assert train.ignored == 2
    assert train.paths[2] == "train/b/00.png"
    assert "train/b/LOUD.JPEG" in train.paths


def test_unicode_spaces_and_long_names_work(tmp_path: Path) -> None:
    names = ["ü ber", "日本", "a" * 200, "new\nline", "-x", "c:d", "🐈"]
    root = fill(tmp_path / "a folder: näme", names, 2)
    splits = open_folder(root, test_fraction=0.5)
    assert set(splits["train"].classes) == set(names)
    for split in splits.values():
        for row in range(len(split)):
            split.images.read(row)


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    fill(tmp_path / "pictures", ["a", "b"])
    assert open_folder("~/pictures")["train"].classes == ("a", "b")


def test_a_relative_path_and_a_trailing_slash_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "pictures", ["a", "b"])
    expected = open_folder(tmp_path / "pictures")["train"].paths
    monkeypatch.chdir(tmp_path)
    for spelled in ("pictures", "pictures/", "./pictures", "pictures/../pictures/"):
        train = open_folder(spelled)["train"]
        assert train.paths == expected
        assert train.dataset == "folder"
        train.images.read(0)


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", ["b"], 2)
    root = fill(tmp_path / "root", ["a"], 2)
    (root / "b").symlink_to(tmp_path / "elsewhere/b")
    (root / "a/link.png").symlink_to(tmp_path / "elsewhere/b/00.png")
    splits = open_folder(root)
    assert sorted(splits["train"].paths + splits["test"].paths) == [
        "a/00.png",
        "a/01.png",
        "a/link.png",
        "b/00.png",
        "b/01.png",
    ]


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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    (tmp_path / "b").chmod(0)
    try:
        assert "/b: can't be read: Permission denied" in refusal(tmp_path)
    finally:
        (tmp_path / "b").chmod(0o700)


def test_a_read_only_folder_works(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.chmod(0o500)
    splits = open_folder(tmp_path)
    splits["train"].images.read(0)
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.chmod(0o700)


def test_too_few_classes_and_empty_ones_are_refused(tmp_path: Path) -> None:
    assert "at least two, found none" in refusal(tmp_path)
    write(tmp_path / "loose.png")
    assert "at least two, found none" in refusal(tmp_path)
    fill(tmp_path, ["only"])
    assert "at least two, found one: only" in refusal(tmp_path)
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty: expected images" in refusal(tmp_path)
    (tmp_path / "empty/notes.txt").write_text("")
    assert "found 1 other files" in refusal(tmp_path)


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
