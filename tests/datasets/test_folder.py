"""Folders of images as they are found in the world: read in a fixed order, or refused in one line."""

from pathlib import Path

import numpy as np
import pytest
from support.folders import PIXELS, fill, open_folder, refusal, write
from xxhash import xxh3_128_digest

from pipeline.errors import DataError


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


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_val_beside_test_is_the_end_of_the_training_split(tmp_path: Path, val: str) -> None:
    fill(tmp_path / "train", ["a", "b", "c"], 3)
    fill(tmp_path / "test", ["a", "b", "c"], 1)
    fill(tmp_path / val, ["c", "b"], 2)
    train, test = open_folder(tmp_path).values()
    assert (len(train), train.val_rows, len(test), test.val_rows) == (13, 4, 3, 0)
    assert list(train.paths[9:]) == [f"{val}/{name}/{i:02}.png" for name in "bc" for i in range(2)]
    assert train.labels[9:].tolist() == [1, 1, 2, 2]
    assert train.ignored == ()
    for row in range(13):
        path = tmp_path / train.paths[row]
        assert train.images.digest(row) == xxh3_128_digest(path.read_bytes())
    statuses = train.images.statuses()
    assert statuses is not None
    assert statuses[:, 0].tolist() == train.sizes.tolist()
    assert train.without([0, 10]).val_rows == 3
    assert train.take([1, 2]).val_rows == 0


def test_a_class_of_val_that_train_lacks_is_refused(tmp_path: Path) -> None:
    for name, classes in (("train", "ab"), ("test", "ab"), ("val", "abc")):
        fill(tmp_path / name, classes)
    assert "same classes in train/ and val/, found only in val/: c" in refusal(tmp_path)


def test_reading_gives_the_pixels_and_the_digest_of_the_file(tmp_path: Path) -> None:
    train = open_folder(fill(tmp_path, ["a", "b"], 4))["train"]
    for row, path in enumerate(train.paths):
        image = train.images.read(row)
        np.testing.assert_array_equal(image.pixels, PIXELS ^ np.uint8(int(Path(path).stem)))
        assert image.digest == xxh3_128_digest((tmp_path / path).read_bytes()) == train.images.digest(row)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 1 << 20])
def test_a_file_of_any_size_is_read_whole(tmp_path: Path, size: int) -> None:
    train = open_folder(fill(tmp_path, ["a", "b"], 4))["train"]
    data = np.random.default_rng(0).bytes(size)
    (tmp_path / train.paths[0]).write_bytes(data)
    assert train.images.digest(0) == xxh3_128_digest(data)


def test_a_file_that_became_a_folder_is_refused(tmp_path: Path) -> None:
    train = open_folder(fill(tmp_path, ["a", "b"], 4))["train"]
    (tmp_path / train.paths[0]).unlink()
    (tmp_path / train.paths[0]).mkdir()
    with pytest.raises(DataError, match=f"{train.paths[0]}: can't be read: Is a directory"):
        train.images.read(0)


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
    assert train.ignored == ("train: 1 .git/, 1 .txt, 1 Thumbs.db, 1 hidden .png",)
    assert train.paths[2] == "train/b/00.png"
    assert "train/b/LOUD.JPEG" in train.paths


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    """Photographs of a phone, an image beside the classes, a split too many: nobody wants to miss them."""
    for split in ("train", "val", "valid", "test"):
        fill(tmp_path / split, ["a", "b"], 2)
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "__MACOSX/train/a").mkdir(parents=True)
    for name in ("a/1.HEIC", "a/2.heic", "b/3.jfif", "b/README"):
        (tmp_path / "train" / name).write_bytes(b"")
    write(tmp_path / "train/loose.png")
    (tmp_path / "train/notes.txt").write_bytes(b"")
    train, test = open_folder(tmp_path).values()
    assert train.ignored == (
        "beside train and test and val: valid, 1 __MACOSX/, 1 lost+found/",
        "train: 2 .heic, 1 .jfif, 1 .png outside of the classes, 1 without suffix",
    )
    assert test.ignored == ()


LITTER_FOLDERS = [
    *(
        "@eaDir",
        "#recycle",
        "@Recycle",
        ".@__thumb",
        "#snapshot",
        "@Recently-Snapshot",
        "lost+found",
        ".Trash-1000",
    ),
    *("__MACOSX", ".AppleDouble", ".Trashes", ".Spotlight-V100", ".fseventsd", "Network Trash Folder"),
    *("$RECYCLE.BIN", "$recycle.bin", "System Volume Information", ".thumbnails"),
    *(".ipynb_checkpoints", "__pycache__", ".git", ".svn"),
]


@pytest.mark.parametrize("parts", [("",), ("train",), ("train", "test"), ("train", "val", "test")])
@pytest.mark.parametrize("litter", LITTER_FOLDERS)
def test_litter_is_neither_image_nor_class_and_is_named(
    tmp_path: Path, litter: str, parts: tuple[str, ...]
) -> None:
    """Thumbnails and bins wherever systems put them: at the top, among classes, inside a class."""
    for part in parts:
        fill(tmp_path / part, ["a", "b/c"], 5)
    clean = {name: split.paths for name, split in open_folder(tmp_path).items()}
    for part in parts:
        for above in ("", "a", "b/c"):
            write(tmp_path / part / above / litter / "00.png" / "SYNOPHOTO_THUMB_M.jpg")
            write(tmp_path / part / above / litter / "a.png")
    write(tmp_path / litter / "a/a.png")
    splits = open_folder(tmp_path)
    assert {name: split.paths for name, split in splits.items()} == clean
    assert splits["train"].classes == ("a", "b")
    assert f"{litter}/" in " ".join(splits["train"].ignored)


@pytest.mark.parametrize(
    "name", ["._00.png", ".~lock.00.png", "~$00.png", "Thumbs.db", "desktop.ini", ".DS_Store"]
)
def test_litter_of_single_files_is_left_out_and_named(tmp_path: Path, name: str) -> None:
    fill(tmp_path, ["a", "b"], 5)
    write(tmp_path / "a" / name)
    splits = open_folder(tmp_path)
    assert sum(map(len, splits.values())) == 10
    assert splits["train"].ignored == (f"classes: 1 {'hidden .png' if '00' in name else name}",)


def test_very_many_kinds_of_left_out_files_are_a_short_line(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"], 5)
    for i in range(500):
        (tmp_path / f"a/x.kind{i}").write_bytes(b"")
    (said,) = open_folder(tmp_path)["train"].ignored
    assert said.endswith(" and 488 more")
    assert len(said) < 200


def test_classes_that_look_like_litter_stay(tmp_path: Path) -> None:
    names = ["#hashtag", "$cash", "@home", "_under", "cache", "recycled", "thumbs", "trash", "~tilde"]
    assert open_folder(fill(tmp_path, names))["train"].classes == tuple(sorted(names))


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
