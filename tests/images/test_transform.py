"""The trunk's input against torchvision's Resize and CenterCrop, and against arithmetic."""

import dataclasses
import json
import tracemalloc
import typing
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2

from pipeline.config import ExtractConfig
from pipeline.errors import DataError
from pipeline.images.transform import VERSION, Resize, Transform

RNG = np.random.default_rng(0)
TRANSFORM = Transform(image_px=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))


def noise(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def test_an_image_of_the_right_size_passes_unchanged() -> None:
    image = noise(16, 16)
    for resize in ("exact", "shorter-side-then-center-crop", "squash"):
        out = dataclasses.replace(TRANSFORM, resize=resize).apply(image)
        np.testing.assert_array_equal(out, np.moveaxis(image, 2, 0))
        assert out.dtype == np.uint8
        assert out.flags.c_contiguous


@pytest.mark.parametrize("size", [(8, 8), (32, 48), (48, 32), (64, 16), (16, 64), (160, 80), (4, 12), (1, 3)])
def test_resizing_is_torchvisions_where_its_crop_falls_on_whole_pixels(size: tuple[int, int]) -> None:
    image = noise(*size)
    reference = v2.Compose(
        [v2.Resize(16, interpolation=v2.InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(16)]
    )
    expected = np.moveaxis(np.asarray(reference(Image.fromarray(image))), 2, 0)
    np.testing.assert_allclose(TRANSFORM.apply(image).astype(int), expected, atol=1)


@pytest.mark.parametrize("size", [(17, 23), (31, 100), (101, 33), (15, 16)])
def test_the_centre_is_kept_to_half_a_pixel(size: tuple[int, int]) -> None:
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    short = min(size)
    image = np.dstack([rows * 200 // height, columns * 200 // width, rows * 0]).astype(np.uint8)
    centres = (np.arange(16) + 0.5) * short / 16  # of the outputs' pixels, in the image's
    expected_rows = (centres + (height - short) / 2 - 0.5) * 200 / height
    expected_columns = (centres + (width - short) / 2 - 0.5) * 200 / width
    out = TRANSFORM.apply(image).astype(float)
    one_pixel = 200 / short
    np.testing.assert_allclose(out[0].mean(axis=1)[2:-2], expected_rows[2:-2], atol=one_pixel / 2 + 1)
    np.testing.assert_allclose(out[1].mean(axis=0)[2:-2], expected_columns[2:-2], atol=one_pixel / 2 + 1)


def test_making_small_averages_instead_of_skipping() -> None:
    stripes = np.zeros((160, 160, 3), np.uint8)
    stripes[:, ::2] = 255
    np.testing.assert_allclose(TRANSFORM.apply(stripes).astype(int), 127, atol=5)


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (1, 1), (2, 20_000), (20_000, 30)])
def test_extreme_shapes_cost_no_more_than_their_middle(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    tracemalloc.start()
    try:
        out = dataclasses.replace(TRANSFORM, image_px=224).apply(image)
        assert tracemalloc.get_traced_memory()[1] < 10 * 224 * 224 * 3 + 4 * image.nbytes
    finally:
        tracemalloc.stop()
    assert out.shape == (3, 224, 224)
    assert (out == 77).all()


@pytest.mark.parametrize("size", [(8, 30), (31, 17), (100, 40), (16, 200), (1, 3), (1, 20_000), (20_000, 1)])
def test_squashing_is_pillows_resizing_of_the_whole_image(size: tuple[int, int]) -> None:
    image = noise(*size)
    squash = dataclasses.replace(TRANSFORM, resize="squash")
    expected = Image.fromarray(image).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(squash.apply(image), np.moveaxis(np.asarray(expected), 2, 0))


def test_the_flag_offers_every_way_of_resizing() -> None:
    literal, nothing = typing.get_args(typing.get_type_hints(ExtractConfig)["resize"])
    assert nothing is type(None)
    assert typing.get_args(literal) == typing.get_args(Resize)


def test_another_size_is_refused_when_the_size_is_to_be_exact() -> None:
    exact = dataclasses.replace(TRANSFORM, resize="exact")
    with pytest.raises(DataError, match="expected 16 x 16 pixels, found 20 x 10"):
        exact.apply(noise(10, 20))


def test_the_identity_tells_any_change_of_a_field_and_gives_the_transform_back() -> None:
    changes: dict[str, list[Any]] = {
        "image_px": [8],
        "resize": ["exact", "squash"],
        "mean": [(0.0, 0.0, 0.0)],
        "std": [(1.0, 1.0, 1.0)],
        "interpolation": ["bilinear"],
        "crop_share": [0.875],
    }
    assert set(changes) == {f.name for f in dataclasses.fields(Transform)}
    assert TRANSFORM.as_json()["version"] == VERSION
    for name, values in changes.items():
        for value in values:
            other = dataclasses.replace(TRANSFORM, **{name: value})
            assert other.as_json() != TRANSFORM.as_json()
            assert Transform.from_json(json.loads(json.dumps(other.as_json()))) == other
