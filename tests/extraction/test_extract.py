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
from support.extracting import files, map_of, settings

from cache import FeatureCache
from pipeline.extraction.stage import extract

ROOT = Path(__file__).parents[2]


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
            image = Image.open(photos / paths[...].tobytes().decode().split("\0")[row])
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
    before = {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (tmp_path / "c").glob("*.h5")}
    capsys.readouterr()
    extract(settings(photos, weights, tmp_path / "c"))
    assert capsys.readouterr().out.count("up to date") == 2
    assert before == {p: (p.stat().st_mtime_ns, p.stat().st_ino) for p in (tmp_path / "c").glob("*.h5")}


def command(config: Sequence[str], weights: Path, cache: Path) -> list[str]:
    """Run on a CPU, which is slow enough to be stopped halfway."""
    script = str(ROOT / "extract_features.py")
    return [
        sys.executable,
        script,
        *config,
        "--device",
        "cpu",
        "--weights",
        str(weights),
        "--cache",
        str(cache),
        "--decoders",
        "1",
    ]


@pytest.fixture(scope="module")
def whole(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits' cache, made without a stop."""
    cache = tmp_path_factory.mktemp("whole") / "c"
    subprocess.run(command(["--dataset", "digits"], weights, cache), check=True, capture_output=True)
    return cache


@pytest.mark.fault("SIGINT, SIGTERM once the first block is there, the whole process")
@pytest.mark.parametrize("stop", [pytest.param(signal.SIGINT, marks=pytest.mark.faults), signal.SIGTERM])
def test_stopped_and_run_again_ends_with_the_same_bytes(
    stop: signal.Signals, whole: Path, weights: Path, tmp_path: Path
) -> None:
    """Digits have two blocks: the process is stopped once the first is there, and has to keep it."""
    stopped = command(["--dataset", "digits"], weights, tmp_path / "stopped")
    slow = os.environ | {"OMP_NUM_THREADS": "1"}  # so that many cores don't do the rest before they are asked
    process = subprocess.Popen(
        stopped, env=slow, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    part = tmp_path / "stopped/train.h5.part"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if part.exists() and _written_blocks(part):
            break
        time.sleep(0.01)
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (130 if stop == signal.SIGINT else 143), said
    assert said.splitlines()[-1].endswith("interrupted; run the same command again")
    again = subprocess.run(stopped, check=True, capture_output=True, text=True)
    assert "414 images in" in again.stdout, "the block that was written is kept"
    assert files(whole) == files(tmp_path / "stopped")


def _written_blocks(part: Path) -> int:
    try:
        with h5py.File(part, locking=False) as file:
            digests = file["digests"]
            assert isinstance(digests, h5py.Dataset)
            return int(digests[:].any(axis=1).sum())
    except OSError:
        return 0  # not laid out yet


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
