"""Plain JPEG files take a short way: the pixels, and the refusals, are those of the long one."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np
import pytest
from PIL import Image

import pipeline.images.decode
from pipeline.images.decode import ImageError, decode, hush
from pipeline.images.jpeg import MAX_BYTES, MAX_PIXELS, decode_plain, plain_header

RNG = np.random.default_rng(0)
JUNK = b"\xff\xd8\xff\xd9 junk \xff\xe1\x00\x08Exif\0\0"


@pytest.fixture(autouse=True)
def hushed() -> None:
    hush()


def pixels(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def encoded(image: Image.Image | np.ndarray, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file := io.BytesIO(), "JPEG", **options)
    return file.getvalue()


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """The file with a segment more, right after its start."""
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


def outcome(data: bytes) -> tuple[object, ...]:
    """All there is to see of a decoded image or of a refusal."""
    try:
        image = decode(data, "x")
    except ImageError as error:
        return "refused", error.reason, type(error.__cause__)
    return image.shape, image.dtype, image.flags.writeable, image.flags.c_contiguous, image.tobytes()


def assert_same(data: bytes, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways agree; gives whether the short one was taken."""
    found = outcome(data)
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.images.decode, "decode_plain", lambda data: None)
        assert outcome(data) == found
    return decode_plain(data) is not None


def plain_files() -> Iterator[bytes]:
    sizes = [(1, 1), (1, 40), (40, 1), (7, 9), (8, 8), (16, 17), (32, 32), (33, 64), (100, 75)]
    for size, quality, sampling in product(sizes, (1, 60, 95, 100), ("4:4:4", "4:2:2", "4:2:0", "4:1:1")):
        image = pixels(*size)
        yield encoded(image, quality=quality, subsampling=sampling)
        yield encoded(image, quality=quality, subsampling=sampling, progressive=True, optimize=True)
        yield encoded(image, quality=quality, subsampling=sampling, restart_marker_blocks=1)
        yield encoded(image, quality=quality, keep_rgb=True)
        yield encoded(image, quality=quality, subsampling=sampling, comment=b"\xff\xda", dpi=(72, 30))


def test_plain_files_decode_as_pillow_opens_them(monkeypatch: pytest.MonkeyPatch) -> None:
    files = list(plain_files())
    short = [assert_same(data, monkeypatch) for data in files]
    assert sum(short) >= 0.8 * len(files)  # all but those that are stored as RGB, which is a word of Adobe's
    assert all(
        decode_plain(data + JUNK) is not None for data, taken in zip(files, short, strict=True) if taken
    )
    assert all(
        assert_same(data + JUNK, monkeypatch) == taken for data, taken in zip(files, short, strict=True)
    )


def exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274] = orientation
    return exif


SMALL = encoded(pixels(12, 20), quality=40)
FRAME = SMALL.split(b"\xff\xc0")
NOT_PLAIN = {
    "nothing": b"",
    "start alone": b"\xff\xd8",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "NUL": b"\0" + SMALL,
    "grey": encoded(Image.fromarray(pixels(9, 9)[..., 0])),
    "CMYK": encoded(Image.fromarray(pixels(9, 9)).convert("CMYK")),
    "profile": encoded(pixels(9, 9), icc_profile=b"profile"),
    "several pictures": with_segment(SMALL, 0xE2, b"MPF\0" + bytes(40)),
    "XMP": encoded(pixels(9, 9), xmp=b'<x tiff:Orientation="6"/>'),
    "Adobe": with_segment(SMALL, 0xEE, b"Adobe\0\x64\0\0\0\0\0"),
    "JFIF cut short": with_segment(SMALL, 0xE0, b"JFIF\0\1"),
    "table cut short": with_segment(SMALL, 0xDB, bytes(64)),
    "table of 16 bits cut short": with_segment(SMALL, 0xDB, b"\x10" + bytes(64)),
    "table of 16 bits": with_segment(SMALL, 0xDB, b"\x10" + bytes(128)),
    "padded marker": SMALL[:2] + b"\xff" + SMALL[2:],
    "junk between segments": SMALL[:2] + b"\0\1" + SMALL[2:],
    "arithmetic": SMALL.replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11"),
    "12 bits": SMALL.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
    "four components": SMALL.replace(b"\0\x0c\0\x14\3", b"\0\x0c\0\x14\4"),
    "half a component more": FRAME[0] + b"\xff\xc0\0\x13" + FRAME[1][2:17] + b"\4\x11" + FRAME[1][17:],
    "another start": b"\xff\xd9" + SMALL[2:],
    "no marker": SMALL[:2] + b"\xfe" + SMALL[3:],
    "no width": SMALL.replace(b"\0\x0c\0\x14\3", b"\0\x0c\0\0\3"),
    "two frames": with_segment(SMALL, 0xC0, b"\x08\0\x05\0\x06\3\1\x22\0\2\x11\1\3\x11\1"),
    "many pixels": encoded(Image.new("RGB", (MAX_PIXELS // 64 + 1, 64))),
    "many bytes": SMALL + bytes(MAX_BYTES),
} | {f"turned {orientation}": encoded(pixels(9, 14), exif=exif(orientation)) for orientation in range(1, 9)}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_whatever_is_not_plain_goes_the_long_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decode_plain(SMALL)  # a file with the same beginning was seen before
    assert not assert_same(NOT_PLAIN[name], monkeypatch)
    assert name == "many bytes" or not plain_header(NOT_PLAIN[name])[0]  # the decoder isn't even asked


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
def test_every_truncation_comes_out_the_same(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(pixels(12, 20), quality=40, **options)
    taken = [assert_same(data[:length], monkeypatch) for length in range(len(data))]
    assert not any(taken[:-2])  # the end's own two bytes are the only ones that may be missing


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}], ids=str)
def test_damaged_bytes_come_out_the_same(options: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    sound = encoded(pixels(12, 20), quality=40, **options)
    taken = 0
    for _ in range(1500):
        data = bytearray(sound)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            data[at] = (0, 0xFF, int(rng.integers(256)))[rng.integers(3)]
        taken += assert_same(bytes(data), monkeypatch)
    assert 0.1 < taken / 1500 < 0.9


def test_nothing_of_the_image_before_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one size or another, whole or damaged, in any order."""
    files = [encoded(pixels(*size), quality=q) for size in ((8, 8), (9, 30), (64, 64)) for q in (50, 90)]
    files += [data[: len(data) // 2] for data in files] + [encoded(np.full((64, 64, 3), 255, np.uint8))]
    kept = [(image, image.copy()) for image in (decode_plain(data) for data in files) if image is not None]
    for choice in RNG.integers(0, len(files), 200):
        assert_same(files[choice], monkeypatch)
    assert all(np.array_equal(image, copy) for image, copy in kept)


def test_threads_do_not_share_what_they_decode_into() -> None:
    files = [encoded(pixels(32, 32)) for _ in range(50)]
    expected = [decode(data, "x") for data in files]
    start = threading.Barrier(4)

    def work(_: int) -> bool:
        start.wait()
        return all(
            np.array_equal(decode(d, "x"), e) for _ in range(20) for d, e in zip(files, expected, strict=True)
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_the_header_reaches_to_the_end_of_the_first_scan_s() -> None:
    header, size = plain_header(SMALL)
    assert SMALL.startswith(header)
    assert size == (20, 12)
    assert header[-14:-10] == b"\xff\xda\0\x0c"
    assert plain_header(header) == (header, size)
    assert not any(plain_header(header[:length])[0] for length in range(len(header)))
