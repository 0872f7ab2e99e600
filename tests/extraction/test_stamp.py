"""Images that can't have changed aren't read again; every other one is, whatever lies beside the cache."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.extracting import settings
from xxhash import xxh3_128_digest

from cache import FeatureCache
from pipeline.config import ExtractConfig
from pipeline.datasets.base import open_dataset
from pipeline.datasets.files import FileReader
from pipeline.extraction import stage, stamp
from pipeline.extraction.stage import extract
from pipeline.images import blocks

IMAGES = 100


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each image file was read: those of `photos`, which are old enough to be believed."""
    monkeypatch.setattr(stamp, "FRESH_NS", 0)
    counts, read_bytes = Counter[str](), FileReader.bytes_of

    def counted(reader: FileReader, row: int) -> bytes:
        counts[reader.paths[row]] += 1
        return read_bytes(reader, row)

    monkeypatch.setattr(FileReader, "bytes_of", counted)
    monkeypatch.setattr(stage, "check_parity", lambda *_: 0.0)  # which reads some
    return counts


def again(config: ExtractConfig, read: Counter[str]) -> list[str]:
    """The images that another run of the same command reads."""
    read.clear()
    extract(config)
    return sorted(read.elements())


def test_images_that_are_as_they_were_are_not_read_again(
    photos: Path, weights: Path, tmp_path: Path, read: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(photos, weights, tmp_path / "c")
    assert len(again(config, read)) == IMAGES
    capsys.readouterr()
    assert again(config, read) == []
    assert capsys.readouterr().out.count("up to date") == 2
    assert len(again(settings(photos, weights, tmp_path / "c", rehash=True), read)) == IMAGES
    assert again(config, read) == []
    os.utime(photos / "train/ü/07.png")  # which moves the time of change as well
    (photos / "train/a b/05.png").rename(tmp_path / "x")
    shutil.copy2(tmp_path / "x", photos / "train/a b/05.png")  # another inode
    assert again(config, read) == ["train/a b/05.png", "train/ü/07.png"]
    assert again(config, read) == []


@pytest.mark.parametrize("on_bad_image", ["stop", "skip"])
def test_of_a_folder_that_has_grown_only_the_new_images_are_read(
    on_bad_image: str, photos: Path, weights: Path, tmp_path: Path, read: Counter[str]
) -> None:
    """To be compared, and to be decoded; with bad ones among the old, which are remembered."""
    if on_bad_image == "skip":
        (photos / "train/a b/05.png").write_bytes(b"not an image")
    config = settings(photos, weights, tmp_path / "c", on_bad_image=on_bad_image)
    extract(config)
    Image.new("RGB", (32, 32)).save(photos / "train/a b/00 new.png")
    (photos / "train/ü/07.png").unlink()
    assert set(again(config, read)) == {"train/a b/00 new.png"}
    assert again(config, read) == []


def in_place(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)


def renamed(path: Path, data: bytes) -> None:
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").rename(path)


@pytest.mark.parametrize("change", [in_place, renamed, Path.write_bytes])
def test_a_change_of_the_same_size_and_age_is_found(
    change, photos: Path, weights: Path, tmp_path: Path, read: Counter[str]
) -> None:
    """The time of writing can be set back, and is. Its maps are computed again."""
    config, path = settings(photos, weights, tmp_path / "c"), photos / "train/ü/07.png"
    Image.open(path).convert("RGB").save(path, "BMP")
    extract(config)
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-20] ^= 1
    change(path, bytes(data))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert set(again(config, read)) == {"train/ü/07.png"}
    found = FeatureCache(tmp_path / "c/train.json")
    assert found.image_digests[found.paths.index("train/ü/07.png")].tobytes() == xxh3_128_digest(bytes(data))
    assert again(config, read) == []


def test_files_that_may_still_change_unseen_are_read_again(
    photos: Path, weights: Path, tmp_path: Path, read: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two changes within a tick of the file system's clock leave one time of change."""
    config, now = settings(photos, weights, tmp_path / "c"), [max(_changed(photos)) + 1_999_999_999]
    monkeypatch.setattr(stamp, "FRESH_NS", 2_000_000_000)
    monkeypatch.setattr(stamp.time, "time_ns", lambda: now[0])
    extract(config)
    fresh = sum(time > now[0] - 2_000_000_000 for time in _changed(photos))
    assert fresh > 0
    assert len(again(config, read)) == fresh
    now[0] += 2
    assert len(again(config, read)) == fresh
    assert again(config, read) == []


def _changed(photos: Path) -> list[int]:
    return [path.stat().st_ctime_ns for path in photos.rglob("*.png")]


@pytest.mark.parametrize(
    "damage", ["empty", "cut off", "a byte more", "other mark", "no stamp at all", "bits"]
)
def test_a_damaged_stamp_is_worth_nothing_and_made_anew(
    damage: str, photos: Path, weights: Path, tmp_path: Path, read: Counter[str]
) -> None:
    config, path = settings(photos, weights, tmp_path / "c"), tmp_path / "c/train.h5.stamp"
    extract(config)
    good = path.read_bytes()
    bad = {
        "empty": [b""],
        "cut off": [good[:-24]],
        "a byte more": [good + b"\0"],
        "other mark": [b"ten-crop-stamp/2" + good[16:]],
        "no stamp at all": [b"\0" * 4096],
        "bits": [good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :] for at in range(0, len(good), 7)],
    }[damage]
    for data in bad:
        path.write_bytes(data)
        assert stamp.read(path) is None
    assert {path.split("/")[0] for path in again(config, read)} == {"train"}
    assert sum(read.values()) == 80
    assert path.read_bytes() == good
    assert again(config, read) == []


def test_a_stamp_of_another_cache_is_worth_nothing(
    photos: Path, weights: Path, tmp_path: Path, read: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not of the same images through other views, nor of the same key and other images."""
    config = settings(photos, weights, tmp_path / "c")
    extract(config)
    extract(settings(photos, weights, tmp_path / "mirror", views="mirror"))
    shutil.copy(tmp_path / "mirror/train.h5.stamp", tmp_path / "c/train.h5.stamp")
    assert len(again(config, read)) == 80
    elsewhere = shutil.copytree(photos, tmp_path / "elsewhere")
    path = elsewhere / "train/ü/07.png"
    pixels = np.array(Image.open(path).convert("RGB"))
    Image.fromarray(255 - pixels).save(path.with_suffix(".bmp"))
    Image.fromarray(pixels).save((photos / "train/ü/07.png").with_suffix(".bmp"))
    both = [settings(folder, weights, tmp_path / folder.name) for folder in (photos, elsewhere)]
    for made in both:
        extract(made)
    assert len({FeatureCache(tmp_path / f"{name}/train.h5").key for name in ("photos", "elsewhere")}) == 1
    shutil.copy(tmp_path / "photos/train.h5", tmp_path / "elsewhere/train.h5")  # beside the other's stamp
    capsys.readouterr()
    extract(both[1])
    assert "0 new, 0 removed, 0 moved, 1 changed, 0 relabelled, 80 as they were" in capsys.readouterr().out


def test_a_stamp_that_can_t_be_written_costs_time_only(
    photos: Path, weights: Path, tmp_path: Path, read: Counter[str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(photos, weights, tmp_path / "c")
    (tmp_path / "c/train.h5.stamp").mkdir(parents=True)
    for _ in range(2):
        assert len(again(config, read)) in (100, 80)
    said = capsys.readouterr().out
    assert said.count("up to date") == 2
    assert (
        said.count("train.h5.stamp: can't be written: Is a directory; the next start reads all images") == 2
    )
    assert not list((tmp_path / "c").glob("*.part"))


def test_bad_images_are_remembered_and_new_ones_looked_at(
    photos: Path, weights: Path, tmp_path: Path, read: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those that were decoded once, none is decoded again to know whether it can be."""
    decoded, decode_one = Counter[str](), blocks._decode_one
    monkeypatch.setattr(
        blocks, "_decode_one", lambda s, row, t: (decoded.update([s.paths[row]]), decode_one(s, row, t))[1]
    )
    bad = photos / "train/a b/05.png"
    bad.write_bytes(b"not an image")
    config = settings(photos, weights, tmp_path / "c", on_bad_image="skip")
    with monkeypatch.context() as patch:
        patch.setattr(stage, "make", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(config)
    assert sum(decoded.values()) == IMAGES
    decoded.clear()
    extract(config)
    assert sum(decoded.values()) == IMAGES - 1, (
        "once more to compute their maps, and not to look for bad ones"
    )
    decoded.clear()
    assert again(config, read) == []
    os.utime(photos / "train/ü/07.png")
    os.utime(bad)
    assert again(config, read) == ["train/a b/05.png", "train/ü/07.png", "train/ü/07.png"]
    assert decoded == {"train/a b/05.png": 1, "train/ü/07.png": 1}
    assert [s["path"] for s in FeatureCache(tmp_path / "c/train.h5").notes["skipped"]] == ["train/a b/05.png"]
    shutil.copy(photos / "train/a b/06.png", bad)
    assert set(again(config, read)) == {"train/a b/05.png"}
    assert "train/a b/05.png" in FeatureCache(tmp_path / "c/train.json").paths


def test_what_another_decoder_or_transform_thought_of_an_image_doesn_t_count(
    photos: Path, weights: Path, tmp_path: Path, read: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "train/a b/05.png").write_bytes(b"not an image")
    config = settings(photos, weights, tmp_path / "c", on_bad_image="skip")
    extract(config)
    assert again(config, read) == []
    monkeypatch.setattr(stamp.PIL, "__version__", "99.0")
    assert len(again(config, read)) == IMAGES
    assert again(config, read) == []


def test_an_image_that_couldn_t_be_read_is_tried_again(
    photos: Path, weights: Path, tmp_path: Path, read: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too many open files, a share that was gone: nothing about the image, which has not changed since."""
    config = settings(photos, weights, tmp_path / "c", on_bad_image="skip")
    opened = open

    def failing(path, *how, **more):
        if str(path).endswith("train/ü/07.png"):
            raise OSError(24, "Too many open files")
        return opened(path, *how, **more)

    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", failing)
        extract(config)
    assert set(again(config, read)) == {"train/ü/07.png"}
    assert "train/ü/07.png" in FeatureCache(tmp_path / "c/train.json").paths


def test_pixels_in_memory_have_no_stamp(tmp_path: Path) -> None:
    found = stamp.Files.of(tmp_path / "train.h5", open_dataset("digits")["train"], rehash=False)
    found.write()
    assert not found.unchanged.any()
    assert list(tmp_path.iterdir()) == []


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt
