"""Greys, palettes, transparency, 16 bits and CMYK: the colours that a viewer shows, in 8 bits."""

import struct

import numpy as np
import pytest
from PIL import Image
from support.encoding import NOISE, RNG, SMOOTH, chunk, encoded, png

from pipeline.images.decode import decode
from pipeline.images.pillow import hush


@pytest.fixture(autouse=True)
def hushed() -> None:
    hush()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "PPM", "TIFF"])
def test_grey_has_three_equal_channels(kind: str) -> None:
    pixels = decode(encoded(NOISE[..., 0], kind), "x")
    np.testing.assert_array_equal(pixels, np.repeat(NOISE[..., :1], 3, axis=2))


def test_one_bit_is_black_and_white() -> None:
    bits = NOISE[..., 0] > 127
    for kind in ("PNG", "PPM", "TIFF", "BMP"):
        pixels = decode(encoded(Image.fromarray(bits), kind), "x")
        np.testing.assert_array_equal(pixels, np.repeat(bits[..., None] * np.uint8(255), 3, axis=2))


def test_a_palette_shows_its_colours_and_its_transparent_entry_shows_white() -> None:
    indices = RNG.integers(0, 8, (6, 7), np.uint8)
    palette = RNG.integers(0, 255, (8, 3), np.uint8)
    image = Image.fromarray(indices)
    image.putpalette(palette.tobytes())
    for kind in ("PNG", "GIF", "BMP"):
        np.testing.assert_array_equal(decode(encoded(image, kind), "x"), palette[indices])
    on_white = palette[indices]
    on_white[indices == 3] = 255
    for kind in ("PNG", "GIF"):
        np.testing.assert_array_equal(decode(encoded(image, kind, transparency=3), "x"), on_white)
    alphas = RNG.integers(0, 256, 8, np.uint8)
    half = decode(encoded(image, "PNG", transparency=alphas.tobytes()), "x")
    np.testing.assert_allclose(half, on_white_by_hand(palette[indices], alphas[indices]), atol=1)


def on_white_by_hand(color_HWC: np.ndarray, alpha_HW: np.ndarray) -> np.ndarray:
    alpha = alpha_HW[..., None] / 255
    return alpha * color_HWC + (1 - alpha) * 255


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_shown_on_white(kind: str) -> None:
    alpha = RNG.integers(0, 256, NOISE.shape[:2], np.uint8)
    rgba = decode(encoded(np.dstack([NOISE, alpha]), kind), "x")
    np.testing.assert_allclose(rgba, on_white_by_hand(NOISE, alpha), atol=1)
    grey = decode(encoded(Image.fromarray(np.dstack([NOISE[..., 0], alpha]), "LA"), kind), "x")
    np.testing.assert_allclose(grey, on_white_by_hand(np.repeat(NOISE[..., :1], 3, 2), alpha), atol=1)


def test_a_transparent_colour_of_rgb_or_grey_is_shown_on_white() -> None:
    transparent = NOISE.copy()
    transparent[NOISE[2, 3, 0] == NOISE[..., 0]] = NOISE[2, 3]
    expected = transparent.copy()
    expected[(transparent == NOISE[2, 3]).all(axis=2)] = 255
    data = encoded(transparent, "PNG", transparency=tuple(NOISE[2, 3].tolist()))
    np.testing.assert_array_equal(decode(data, "x"), expected)
    grey = png(NOISE[..., :1], 8, 0, chunk(b"tRNS", struct.pack(">H", NOISE[0, 0, 0])))
    assert (decode(grey, "x")[NOISE[..., 0] == NOISE[0, 0, 0]] == 255).all()
    deep = RNG.integers(0, 1000, (5, 5, 1), np.uint16)
    deep_grey = png(deep, 16, 0, chunk(b"tRNS", struct.pack(">H", deep[1, 1, 0])))
    assert (decode(deep_grey, "x")[deep[..., 0] == deep[1, 1, 0]] == 255).all()


def test_16_bit_grey_is_scaled_to_the_nearest_8_bit_level() -> None:
    samples = np.r_[np.arange(0, 65536, 97), 65535].astype(np.uint16)[:, None, None]
    expected = np.repeat(np.rint(samples / 257).astype(np.uint8), 3, axis=2)
    np.testing.assert_array_equal(decode(png(samples, 16, 0), "x"), expected)
    for kind in ("PNG", "TIFF", "PPM"):
        np.testing.assert_array_equal(decode(encoded(samples[..., 0], kind), "x"), expected)


@pytest.mark.parametrize(("color", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_16_bit_colour_and_alpha_are_scaled_not_clipped(color: int, channels: int) -> None:
    samples = RNG.integers(0, 65536, (8, 9, channels), np.uint16)
    expected = samples[..., :3] if channels > 2 else np.repeat(samples[..., :1], 3, 2)
    if channels in (2, 4):
        alpha = samples[..., -1:] / 65535
        expected = alpha * expected + (1 - alpha) * 65535
    np.testing.assert_allclose(decode(png(samples, 16, color), "x"), expected / 257, atol=3)


def test_a_cmyk_jpeg_shows_the_colours_it_was_made_from() -> None:
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    pixels = decode(encoded(cmyk, "JPEG", quality=98, subsampling=0), "x")
    np.testing.assert_allclose(pixels.astype(int), SMOOTH, atol=12)
