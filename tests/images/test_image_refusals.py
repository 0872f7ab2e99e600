"""Files that are no image, or not a whole one, or one of no agreed meaning: refused by name and reason."""

import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.encoding import NOISE, SMOOTH, chunk, encoded

from pipeline.images.decode import ImageError, decode
from pipeline.images.pillow import MAX_PIXELS, hush


@pytest.fixture(autouse=True)
def hushed() -> None:
    hush()


def refusal(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, "folder/x.jpg")
    message = str(caught.value)
    assert message.startswith("folder/x.jpg: ")
    assert "\n" not in message
    assert caught.value.reason == message.removeprefix("folder/x.jpg: ")
    return caught.value.reason


def test_32_bit_samples_are_refused_as_they_have_no_agreed_white() -> None:
    assert "no agreed white" in refusal(encoded(NOISE[..., 0].astype(np.float32), "TIFF"))
    assert "no agreed white" in refusal(encoded(NOISE[..., 0].astype(np.int32), "TIFF"))


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


@pytest.mark.parametrize("data", [b"not an image", b"\0" * 100, b"BZh91AY", b"RIFF\0\0\0\0WAVE", b"MM"])
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


@given(st.binary(max_size=200), st.integers(0, 5))
def test_any_bytes_are_an_image_or_refused(data: bytes, start: int) -> None:
    starts = (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"RIFF\xff\0\0\0WEBPVP8X")
    try:
        pixels = decode(starts[start] + data, "x")
    except ImageError:
        return
    assert pixels.shape[2] == 3


@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"]), st.data())
def test_a_damaged_byte_is_survived(kind: str, draw: st.DataObject) -> None:
    data = bytearray(encoded(SMOOTH, kind))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        said = str(decode(bytes(data), "x").dtype)
    except ImageError as error:
        said = error.reason
    assert said == "uint8" or "0x" not in said  # an address would differ from run to run
