"""Wild images: the pixels that a viewer shows, the right way up. Colours are in test_image_colours.py."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.encoding import NOISE, SMOOTH, encoded

from pipeline.images.decode import decode
from pipeline.images.pillow import hush

PHOTOS = Path(__file__).parents[3] / "shared/cifar10-jpeg"


@pytest.fixture(autouse=True)
def hushed() -> None:
    hush()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_rgb_comes_back_exactly(kind: str) -> None:
    pixels = decode(encoded(NOISE, kind), "x")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, NOISE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_an_image_is_turned_as_its_camera_says(kind: str, orientation: int) -> None:
    # What each value means, from the EXIF standard's picture of the 0th row and 0th column.
    upright = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
        8: lambda p: np.rot90(p, 1),
    }[orientation]
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(SMOOTH, kind, exif=exif, **options)
    stored = np.asarray(Image.open(io.BytesIO(encoded(SMOOTH, kind, **options))).convert("RGB"))
    np.testing.assert_array_equal(decode(data, "x"), upright(stored))
    np.testing.assert_array_equal(
        decode(data, "x"), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    )


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_damaged_metadata_does_not_lose_a_good_picture(kind: str) -> None:
    exif = Image.Exif()
    exif[274], exif[271], exif[282] = 6, "maker", (72, 1)
    sound = encoded(SMOOTH, kind, exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(sound)))
    start = sound.index(b"MM\0*")
    for at in range(start, sound.index(b"maker", start)):
        for value in (0, 1, 2, 7, 255):
            data = bytearray(sound)
            data[at] = value
            pixels = decode(bytes(data), "x")
            turned = [np.rot90(p, turns) for p in (pixels, pixels[:, ::-1]) for turns in range(4)]
            assert any(np.array_equal(p, stored) for p in turned)


def test_extreme_shapes_come_through() -> None:
    for height, width in ((1, 1), (1, 20_000), (20_000, 1), (30, 20_000)):
        pixels = np.resize(NOISE, (height, width, 3))
        np.testing.assert_array_equal(decode(encoded(pixels, "PNG"), "x"), pixels)
        assert decode(encoded(pixels, "JPEG"), "x").shape == (height, width, 3)


def test_the_first_of_several_frames_counts() -> None:
    frames = [Image.fromarray(np.full((4, 5, 3), v, np.uint8)) for v in (10, 200, 90)]
    for kind in ("GIF", "TIFF", "PNG", "WEBP"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert (decode(data, "x") == 10).all()


@pytest.mark.skipif(not PHOTOS.exists(), reason="no ../shared/cifar10-jpeg")
def test_photos_decode_as_pillow_shows_them() -> None:
    paths = sorted(PHOTOS.glob("test/*/00[0-2]0.jpg"))
    assert len(paths) == 30
    for path in paths:
        expected = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(decode(path.read_bytes(), path.name), expected)
