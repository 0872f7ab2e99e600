"""Stage one: what is in the file is what the trunk computes, whatever happened on the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cache import CacheWriter, FeatureCache
from pipeline.config import ExtractConfig
from pipeline.errors import CacheError, ConfigError, DataError, WeightsError
from pipeline.extract import extract
from pipeline.trunks.alexnet_cifar import load

ROOT = Path(__file__).parents[1]
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)


def settings(photos: Path, weights: Path, cache: Path, **other: object) -> ExtractConfig:
    fields = {"workers": 1, "dtype": "float32", **other}
    return ExtractConfig(dataset=f"folder:{photos}", weights=str(weights), cache=str(cache), **fields)  # type: ignore[arg-type]


def map_of(weights: Path, image: Image.Image) -> Tensor:
    """The reference: one image, no cache, no folding."""
    pixels = torch.from_numpy(np.asarray(image.convert("RGB"), np.float32) / 255)
    normalised = (pixels - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.inference_mode():
        return load(weights).module(normalised.permute(2, 0, 1)[None])[0]


def test_any_row_read_with_h5py_is_the_trunks_map_of_that_image(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    extract(settings(photos, weights, tmp_path / "c", views="mirror"))
    with h5py.File(tmp_path / "c/train.h5") as file:
        paths, features = file["paths"], file["features"]
        assert isinstance(paths, h5py.Dataset)
        assert isinstance(features, h5py.Dataset)
        assert features.shape == (80, 2, 256, 5, 5)
        for row in (0, 39, 40, 79):
            image = Image.open(photos / paths[row].decode())
            for view, shown in enumerate(
                (image, image.convert("RGB").transpose(Image.Transpose.FLIP_LEFT_RIGHT))
            ):
                expected = map_of(weights, shown)
                torch.testing.assert_close(
                    torch.from_numpy(features[row, view]), expected, rtol=1e-3, atol=1e-4
                )
    cache = FeatureCache(tmp_path / "c/test.h5")
    assert cache.classes == ("a b", "ü")
    assert np.bincount(cache.labels).tolist() == [10, 10]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_short_numbers_are_the_rounded_long_ones(
    dtype: str, photos: Path, weights: Path, tmp_path: Path
) -> None:
    extract(settings(photos, weights, tmp_path / "long"))
    extract(settings(photos, weights, tmp_path / "short", dtype=dtype))
    long = torch.from_numpy(FeatureCache(tmp_path / "long/train.h5").features.copy())
    short = FeatureCache(tmp_path / "short/train.h5").features
    if dtype == "bfloat16":
        found = torch.from_numpy(short.view(np.int16).copy()).view(torch.bfloat16)
    else:
        found = torch.from_numpy(short.copy())
    assert torch.equal(found, long.to(found.dtype))


def test_augmented_views_are_for_training_images_only(photos: Path, weights: Path, tmp_path: Path) -> None:
    extract(settings(photos, weights, tmp_path / "c", views="augment:2"))
    extract(settings(photos, weights, tmp_path / "plain"))
    train, test = (FeatureCache(tmp_path / f"c/{name}.h5") for name in ("train", "test"))
    assert (train.shape[1], test.shape[1]) == (3, 1)
    plain = FeatureCache(tmp_path / "plain/train.h5")
    np.testing.assert_allclose(train.features[:, 0], plain.features[:, 0], rtol=1e-3, atol=1e-4)
    assert not np.allclose(train.features[:, 1], plain.features[:, 0], atol=1e-2)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_extraction_elsewhere_gives_the_same_bytes(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    extract(settings(photos, weights, tmp_path / "one"))
    shutil.copytree(photos, tmp_path / "elsewhere")
    extract(settings(tmp_path / "elsewhere", weights, tmp_path / "two"))
    one, two = (FeatureCache(tmp_path / name / "train.h5") for name in ("one", "two"))
    assert one.key == two.key
    assert np.array_equal(one.features, two.features)
    extract(settings(photos, weights, tmp_path / "three"))
    assert files(tmp_path / "one") == files(tmp_path / "three")


def test_nothing_is_written_when_nothing_changed(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(settings(photos, weights, tmp_path / "c"))
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (tmp_path / "c").iterdir()}
    capsys.readouterr()
    extract(settings(photos, weights, tmp_path / "c"))
    assert capsys.readouterr().out.count("up to date") == 2
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (tmp_path / "c").iterdir()}


def test_a_bad_image_stops_the_run_by_name_or_is_left_out_and_recorded(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    (photos / "train/a b/05.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"a b/05\.png: .*: --on-bad-image skip"):
        extract(settings(photos, weights, tmp_path / "c"))
    assert not (tmp_path / "c/train.h5").exists()
    extract(settings(photos, weights, tmp_path / "c2", on_bad_image="skip"))
    cache = FeatureCache(tmp_path / "c2/train.h5")
    assert cache.shape[0] == 79
    assert np.bincount(cache.labels).tolist() == [39, 40]
    assert [s["path"] for s in cache.notes["skipped"]] == ["train/a b/05.png"]
    row = cache.paths.index("train/a b/06.png")
    expected = map_of(weights, Image.open(photos / "train/a b/06.png"))
    torch.testing.assert_close(
        torch.from_numpy(cache.features[row, 0].copy()), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("block", "follow"), [(0, "mend"), (0, "remove"), (0, "leave out"), (2, "leave out")]
)
def test_the_advice_on_a_bad_image_works_when_followed(
    block: int, follow: str, weights: Path, tmp_path: Path
) -> None:
    """A bad image of the first block, and of the third, when the first is written."""
    photos, images, small = tmp_path / "photos", 1024 * block + 4, {"image_px": 16}
    for split, name in (("train", "a"), ("train", "b"), ("test", "a"), ("test", "b")):
        (photos / split / name).mkdir(parents=True)
        for i in range(images if (split, name) == ("train", "a") else 2):
            Image.new("RGB", (32, 32), (i % 256, i // 256, 0)).save(photos / split / name / f"{i:04}.png")
    bad = photos / "train/b/0001.png"
    bad.write_bytes(b"not an image")
    with pytest.raises(DataError) as caught:
        extract(settings(photos, weights, tmp_path / "c", **small))
    part = tmp_path / "c/train.h5.part"
    assert (f"delete {part}" in str(caught.value)) == bool(block)
    if block:
        part.unlink()
    if follow == "mend":
        Image.new("RGB", (32, 32)).save(bad)
    elif follow == "remove":
        bad.unlink()
    skip = {"on_bad_image": "skip"} if follow == "leave out" else {}
    extract(settings(photos, weights, tmp_path / "c", **small, **skip))
    assert len(FeatureCache(tmp_path / "c/train.h5")) == images + 1 + (follow == "mend")


@pytest.mark.parametrize("left", ["train.h5.part", "train.h5.layout"])
def test_what_an_interrupted_run_left_counts_as_free(
    left: str, photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A layout that was cut off, and a part without blocks, are replaced."""
    with monkeypatch.context() as patch:
        patch.setattr(CacheWriter, "write", _interrupted)
        with pytest.raises(KeyboardInterrupt):
            extract(settings(photos, weights, tmp_path / "c", views="mirror"))
    (tmp_path / "c/train.h5.part").rename(tmp_path / "c" / left)
    usage = shutil.disk_usage(tmp_path)._replace(free=3 << 20)  # of 5 MB needed, 4 MB of them for train.h5
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    extract(settings(photos, weights, tmp_path / "c", views="plain" if left.endswith("part") else "mirror"))
    assert sorted(os.listdir(tmp_path / "c")) == ["test.h5", "train.h5"]


def test_a_split_of_bad_images_alone_is_named(photos: Path, weights: Path, tmp_path: Path) -> None:
    for image in (photos / "test").glob("*/*.png"):
        image.write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"folder:\S*photos: test: expected an image that can be decoded"):
        extract(settings(photos, weights, tmp_path / "c", on_bad_image="skip"))


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def command(config: Sequence[str], weights: Path, cache: Path) -> list[str]:
    script = str(ROOT / "extract_features.py")
    return [
        sys.executable,
        script,
        *config,
        "--weights",
        str(weights),
        "--cache",
        str(cache),
        "--workers",
        "1",
    ]


@pytest.mark.fault("SIGINT, SIGTERM once the first block is there, the whole process")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_run_again_ends_with_the_same_bytes(
    stop: signal.Signals, weights: Path, tmp_path: Path
) -> None:
    """Digits have two blocks: the process is stopped once the first is there, and has to keep it."""
    plain = command(["--dataset", "digits"], weights, tmp_path / "whole")
    subprocess.run(plain, check=True, capture_output=True)
    stopped = command(["--dataset", "digits"], weights, tmp_path / "stopped")
    process = subprocess.Popen(stopped, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "stopped/train.h5.part"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if part.exists() and _written_blocks(part):
            break
        time.sleep(0.01)
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else 143), said
    assert said.splitlines()[-1].endswith("interrupted; the same command goes on from here")
    again = subprocess.run(stopped, check=True, capture_output=True, text=True)
    assert "414 images in" in again.stdout, "the block that was written is kept"
    assert files(tmp_path / "whole") == files(tmp_path / "stopped")


def _written_blocks(part: Path) -> int:
    try:
        with h5py.File(part, locking=False) as file:
            digests = file["digests"]
            assert isinstance(digests, h5py.Dataset)
            return int(digests[:].any(axis=1).sum())
    except OSError:
        return 0  # not laid out yet


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(CacheError, match="the disk has 0 MB free"):
        extract(settings(photos, weights, tmp_path / "c"))
    assert os.listdir(tmp_path / "c") == []


def test_an_image_that_is_too_small_for_the_trunk_is_a_mistake_of_the_flag(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="--image-px: 4 pixels are not enough"):
        extract(settings(photos, weights, tmp_path / "c", image_px=4))


def test_memory_that_runs_out_is_not_blamed_on_small_images(weights: Path, tmp_path: Path) -> None:
    """8,192 pixels take 17 GB after the first layers, and the process may have 8."""
    flags = ["--dataset", "digits", "--image-px", "8192"]
    limit = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_AS, (8 << 30, -1)); del sys.argv[0]"
    )
    run = f"{limit}; runpy.run_path(sys.argv[0], run_name='__main__')"
    words = [sys.executable, "-c", run, *command(flags, weights, tmp_path / "c")[1:]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "not enough" not in done.stderr
    assert "--image-px: 8192 pixels take more memory than there is" in done.stderr


def test_larger_images_give_larger_maps(photos: Path, weights: Path, tmp_path: Path) -> None:
    extract(settings(photos, weights, tmp_path / "c", image_px=64))
    assert FeatureCache(tmp_path / "c/train.h5").shape == (80, 1, 256, 13, 13)


def test_missing_weights_are_one_line(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pth: no such file"):
        extract(settings(photos, tmp_path / "none.pth", tmp_path / "c"))


def test_a_refused_dataset_leaves_no_folder_behind(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        extract(settings(tmp_path / "nowhere", weights, tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
