"""Images that a device resizes, against Pillow's: not one pixel differs. Here the device is the CPU."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.extracting import files, settings

from pipeline.extraction.stage import extract
from pipeline.images import on_device, taps
from pipeline.images.cut import LARGEST, cut
from pipeline.images.on_device import Cuts, resizes
from pipeline.images.transform import Interpolation, Resize, Transform

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
SIZES = [(30, 50), (50, 30), (16, 16), (40, 40), (3, 5), (1, 1), (16, 31), (90, 16), (120, 30), (64, 17)]
SIZES += [(8, 100), (100, 8), (31, 31), (16, 17), (1, 2000), (2000, 1)]


def transform(**fields: object) -> Transform:
    return Transform(**{"image_px": 16, "mean": (0, 0, 0), "std": (1, 1, 1), **fields})  # type: ignore[arg-type]


def noise(height: int, width: int) -> np.ndarray:
    """Samples 0 and 255 on one half, where results have to be clipped."""
    image = RNG.integers(0, 256, (height, width, 3), np.uint8)
    image[: height // 2] = np.where(image[: height // 2] < 128, 0, 255)
    return image


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """What a device was found to do holds within a test."""
    resizes.cache_clear()
    taps.taps.cache_clear()
    yield
    resizes.cache_clear()
    taps.taps.cache_clear()


@pytest.fixture
def by_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPU is taken for a device that resizes."""
    monkeypatch.setattr(on_device, "DEVICES", {"cpu"})


@pytest.mark.parametrize("together", [1, 3, 64])
@pytest.mark.parametrize("crop_share", [1.0, 0.875, 0.3])
@pytest.mark.parametrize("resize", ["shorter-side-then-center-crop", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_pillows(
    interpolation: Interpolation,
    resize: Resize,
    crop_share: float,
    together: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(on_device, "TOGETHER_PIXELS", together * 16**2)
    asked = transform(interpolation=interpolation, resize=resize, crop_share=crop_share)
    images = [noise(*size) for size in SIZES]
    cuts = [cut(image, asked) for image in images]
    assert sum(image.size is not None for image in cuts) >= 8  # which the device resizes
    found = Cuts(cuts, asked).on(CPU)
    np.testing.assert_array_equal(found, [asked.apply(image) for image in images])
    np.testing.assert_array_equal(Cuts(cuts, asked)[3:9].on(CPU), found[3:9])


def test_no_more_is_sent_than_is_read_and_large_images_are_resized_before() -> None:
    wide = cut(noise(30, 300), transform())
    assert wide.size == (30, 300)
    assert wide.pixels.shape[0] == 30
    assert wide.pixels.shape[1] <= 30 + 2 * 4 + 2  # bicubic reads two of the result's pixels beyond the rim
    for size in [(300, 400), (16, 16)]:
        image = cut(noise(*size), transform())
        assert image.size is None
        assert image.pixels.shape == (3, 16, 16)
    assert wide.pixels[..., 0].size <= LARGEST * 16**2


@pytest.mark.parametrize("interpolation", ["nearest", "box", "hamming", "lanczos"])
@pytest.mark.usefixtures("by_the_device")
def test_what_is_not_known_is_left_to_pillow(interpolation: Interpolation) -> None:
    assert not resizes(transform(interpolation=interpolation), CPU)
    assert resizes(transform(interpolation="bilinear"), CPU)
    assert not resizes(transform(resize="exact"), CPU)


@pytest.mark.usefixtures("by_the_device")
def test_a_device_of_other_pixels_resizes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(taps, "POINT_BITS", 21)
    assert not resizes(transform(), CPU)
    assert "resized on the CPU, since cpu makes other pixels" in capsys.readouterr().out


def test_a_cpu_does_not_resize_what_it_computes() -> None:
    assert not resizes(transform(), CPU)


@pytest.fixture
def odd_photos(tmp_path: Path) -> Path:
    """20 images in two classes, of many shapes, some of which are the trunk's input or large."""
    for i in range(20):
        height, width = [(40, 50), (64, 41), (32, 32), (20, 33), (150, 40), (90, 90)][i % 6]
        folder = tmp_path / "photos" / ("test" if i < 4 else "train") / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(height + i, width)).save(folder / f"{i:02}.jpg", quality=95)
    return tmp_path / "photos"


def test_caches_are_equal_byte_for_byte_whoever_resizes(
    odd_photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"views": "mirror", "dtype": "float16", "decoders": 2, "batch": 6}
    extract(settings(odd_photos, weights, tmp_path / "pillow", **asked))
    monkeypatch.setattr(on_device, "DEVICES", {"cpu"})
    resizes.cache_clear()
    sent: list[int] = []
    original = Cuts.on
    monkeypatch.setattr(Cuts, "on", lambda cuts, device: sent.append(len(cuts)) or original(cuts, device))
    extract(settings(odd_photos, weights, tmp_path / "device", **asked))
    assert sum(sent) >= 20
    assert files(tmp_path / "pillow") == files(tmp_path / "device")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_pixels_of_a_gpu_are_pillows() -> None:
    asked = transform(image_px=224)
    assert resizes(asked, torch.device("cuda"))
    images = [noise(*size) for size in [(375, 500), (500, 333), (224, 224), (640, 230)]]
    found = Cuts([cut(image, asked) for image in images], asked).on(torch.device("cuda"))
    np.testing.assert_array_equal(found.cpu(), [asked.apply(image) for image in images])
