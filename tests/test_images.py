"""Wild images: what a viewer shows, or a refusal by name. Files are made by Pillow or byte by byte."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline.images import MAX_PIXELS, ImageError, decode, hush

PHOTOS = Path(__file__).parents[2] / "shared/cifar10-jpeg"
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (9, 14, 3), np.uint8)
SMOOTH = np.asarray(Image.fromarray(NOISE[:4, :4]).resize((40, 24), Image.Resampling.BICUBIC))


@pytest.fixture(autouse=True)
def hushed() -> None:
    hush()


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(samples: np.ndarray, bits: int, color: int, *chunks: bytes) -> bytes:
    """A PNG of (H, W, channels) samples, written by hand: Pillow writes no 16-bit colour."""
    height, width, _ = samples.shape
    big_endian = samples.astype(">u2" if bits == 16 else "u1")
    lines = b"".join(b"\0" + line.tobytes() for line in big_endian)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    body = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, "folder/x.jpg")
    message = str(caught.value)
    assert message.startswith("folder/x.jpg: ")
    assert "\n" not in message
    assert caught.value.reason == message.removeprefix("folder/x.jpg: ")
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF"])
def test_lossless_rgb_comes_back_exactly(kind: str) -> None:
    pixels = decode(encoded(NOISE, kind), "x")
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, NOISE)


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


def test_32_bit_samples_are_refused_as_they_have_no_agreed_white() -> None:
    assert "no agreed white" in refusal(encoded(NOISE[..., 0].astype(np.float32), "TIFF"))
    assert "no agreed white" in refusal(encoded(NOISE[..., 0].astype(np.int32), "TIFF"))


def test_a_cmyk_jpeg_shows_the_colours_it_was_made_from() -> None:
    cmyk = Image.fromarray(SMOOTH).convert("CMYK")
    pixels = decode(encoded(cmyk, "JPEG", quality=98, subsampling=0), "x")
    np.testing.assert_allclose(pixels.astype(int), SMOOTH, atol=12)


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"])
def test_every_truncation_is_refused_unless_all_pixels_are_there(kind: str) -> None:
    data = encoded(SMOOTH, kind)
    whole = decode(data, "x")
    refused = 0
    for length in range(len(data)):
        try:
            np.testing.assert_array_equal(decode(data[:length], "x"), whole)
        except ImageError:
            refused += 1
    assert refused > 0.8 * len(data)


@pytest.mark.parametrize(
    "data", [b"not an image", b"\0" * 100, b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"]
)
def test_what_is_no_image_is_refused_in_words_that_are_always_the_same(data: bytes) -> None:
    assert refusal(data) == ("expected an image (JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM), found something else")


def test_an_empty_file_is_refused() -> None:
    assert refusal(b"") == "expected an image, found an empty file"


@pytest.mark.parametrize(("width", "height"), [(9_460, 9_460), (15_000, 15_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(width: int, height: int) -> None:
    assert width * height > MAX_PIXELS
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hush()
        assert "bomb" in refusal(bomb)


@given(st.binary(max_size=200), st.integers(0, 3))
def test_any_bytes_are_an_image_or_refused(data: bytes, start: int) -> None:
    starts = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a")
    try:
        pixels = decode(starts[start] + data, "x")
    except ImageError:
        return
    assert pixels.shape[2] == 3


@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP"]), st.data())
def test_a_damaged_byte_is_survived(kind: str, draw: st.DataObject) -> None:
    data = bytearray(encoded(SMOOTH, kind))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        said = str(decode(bytes(data), "x").dtype)
    except ImageError as error:
        said = error.reason
    assert said == "uint8" or "0x" not in said  # an address would differ from run to run


@pytest.mark.skipif(not PHOTOS.exists(), reason="no ../shared/cifar10-jpeg")
def test_photos_decode_as_pillow_shows_them() -> None:
    paths = sorted(PHOTOS.glob("test/*/00[0-2]0.jpg"))
    assert len(paths) == 30
    for path in paths:
        expected = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(decode(path.read_bytes(), path.name), expected)
