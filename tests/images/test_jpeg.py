"""JPEG files take a faster way than Pillow's: the pixels, and the refusals, are those that Pillow gives."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile
from support.jpegs import assert_as_pillow, by_pillow, encoded, exif, noise, photo, with_segment

from pipeline.images.decode import ImageError, decode
from pipeline.images.pillow import MAX_PIXELS, hush

JUNK = b"\xff\xd8\xff\xd9 junk \xff\xe1\x00\x08Exif\0\0"
PHOTOS = Path(__file__).parents[3] / "shared/cifar10-jpeg"


@pytest.fixture(autouse=True)
def hushed() -> None:
    hush()


@pytest.fixture
def without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow may read headers, and decodes nothing."""

    def fails(image: ImageFile.ImageFile) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)


KINDS: list[dict[str, Any]] = [
    {},
    {"progressive": True},
    {"optimize": True},
    {"restart_marker_blocks": 1},
    {"comment": b"\xff\xda", "dpi": (72, 30), "icc_profile": b"profile"},
]


@pytest.mark.parametrize("make", [photo, noise])
@pytest.mark.parametrize("sampling", ["4:4:4", "4:2:2", "4:2:0", "4:1:1"])
def test_files_of_every_kind_decode_as_pillow_decodes_them(
    sampling: str, make: Callable[[int, int], np.ndarray]
) -> None:
    sizes = [(1, 1), (1, 40), (40, 1), (7, 9), (16, 17), (33, 64), (100, 75)]
    for size, quality in product(sizes, (1, 20, 60, 75, 90, 95, 100)):
        image = make(*size)
        for options in KINDS:
            assert assert_as_pillow(encoded(image, quality=quality, subsampling=sampling, **options))
        assert assert_as_pillow(encoded(image, quality=quality, keep_rgb=True))
        assert assert_as_pillow(encoded(image[..., 0], quality=quality))


@pytest.mark.parametrize("quality", range(1, 101))
def test_photos_of_every_quality_decode_as_pillow_decodes_them(quality: int) -> None:
    assert assert_as_pillow(encoded(photo(90, 120), quality=quality))


@pytest.mark.skipif(not PHOTOS.exists(), reason="no ../shared/cifar10-jpeg")
def test_real_photos_decode_as_pillow_decodes_them() -> None:
    paths = sorted(PHOTOS.glob("test/*/*0.jpg"))
    assert len(paths) == 1000
    assert all(assert_as_pillow(path.read_bytes()) for path in paths)


def test_a_photo_with_exif_that_is_not_turned_takes_the_fast_way(without_pillow: None) -> None:
    image = photo(30, 40)
    plain = encoded(image)
    shown = simplejpeg.decode_jpeg(plain)
    for data in (plain, plain + JUNK, encoded(image, exif=exif(1)), encoded(image, xmp=b"<x/>")):
        np.testing.assert_array_equal(decode(data, "x"), shown)


def two_pictures() -> bytes:
    first, second = Image.fromarray(photo(20, 30)), Image.fromarray(photo(20, 30))
    return encoded(first, kind="MPO", save_all=True, append_images=[second])


SMALL = encoded(noise(12, 20), quality=40)
FRAME = SMALL.split(b"\xff\xc0")
XMP = b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>'
EXIF = b"Exif\0\0" + exif(6).tobytes().removeprefix(b"Exif\0\0")
ODD = {
    "start alone": b"\xff\xd8",
    "PNG": b"\x89PNG\r\n\x1a\n",
    "NUL": b"\0" + SMALL,
    "CMYK": encoded(Image.fromarray(noise(9, 9)).convert("CMYK")),
    "profile": encoded(noise(9, 9), icc_profile=b"profile"),
    "a segment of two pictures": with_segment(SMALL, 0xE2, b"MPF\0" + bytes(40)),
    "two pictures": two_pictures(),
    "turned by XMP": with_segment(SMALL, 0xE1, XMP),
    "turned by EXIF after a segment without": with_segment(with_segment(SMALL, 0xE1, EXIF), 0xE1, b"x"),
    "turned by EXIF after a comment": with_segment(with_segment(SMALL, 0xE1, EXIF), 0xFE, b"\xff\xda\0\2"),
    "turned by EXIF after padding": SMALL[:2] + b"\xff" + with_segment(SMALL, 0xE1, EXIF)[2:],
    "turned by EXIF after a restart": SMALL[:2] + b"\xff\xd0" + with_segment(SMALL, 0xE1, EXIF)[2:],
    "EXIF cut short": with_segment(SMALL, 0xE1, EXIF[:20]),
    "Adobe, RGB": with_segment(SMALL, 0xEE, b"Adobe\0\x64\0\0\0\0\0"),
    "Adobe, YCC": with_segment(SMALL, 0xEE, b"Adobe\0\x64\0\0\0\0\1"),
    "table cut short": with_segment(SMALL, 0xDB, bytes(64)),
    "table of 16 bits cut short": with_segment(SMALL, 0xDB, b"\x10" + bytes(64)),
    "table of 16 bits": with_segment(SMALL, 0xDB, b"\x10" + bytes(128)),
    "padded marker": SMALL[:2] + b"\xff" + SMALL[2:],
    "junk between segments": SMALL[:2] + b"\0\1" + SMALL[2:],
    "junk at the end": SMALL + JUNK,
    "end missing": SMALL[:-2],
    "arithmetic": SMALL.replace(b"\xff\xc0\0\x11", b"\xff\xc9\0\x11"),
    "12 bits": SMALL.replace(b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"),
    "four components": SMALL.replace(b"\0\x0c\0\x14\3", b"\0\x0c\0\x14\4"),
    "half a component more": FRAME[0] + b"\xff\xc0\0\x13" + FRAME[1][2:17] + b"\4\x11" + FRAME[1][17:],
    "another start": b"\xff\xd9" + SMALL[2:],
    "no marker": SMALL[:2] + b"\xfe" + SMALL[3:],
    "no width": SMALL.replace(b"\0\x0c\0\x14\3", b"\0\x0c\0\0\3"),
    "two frames": with_segment(SMALL, 0xC0, b"\x08\0\x05\0\x06\3\1\x22\0\2\x11\1\3\x11\1"),
    "many pixels": encoded(Image.new("RGB", (16_385, 64))),
    "many bytes": SMALL + bytes(1 << 16),
} | {f"turned {value}": encoded(noise(9, 14), exif=exif(value)) for value in range(10)}


@pytest.mark.parametrize("name", ODD)
def test_odd_files_come_out_as_pillow_shows_them(name: str) -> None:
    assert_as_pillow(ODD[name])


def test_a_header_that_only_pillow_stumbles_over_loses_no_picture() -> None:
    data = with_segment(SMALL, 0xE0, b"JFIF\0\1")
    assert by_pillow(data) is None
    np.testing.assert_array_equal(decode(data, "x"), by_pillow(SMALL))


def test_colours_coded_by_adobe_s_rules_come_out_as_pillow_shows_them() -> None:
    """YCCK: a CMYK file whose marker says 2, of which libjpeg makes CMYK."""
    cmyk = encoded(Image.fromarray(photo(40, 30)).convert("CMYK"))
    at = cmyk.index(b"Adobe")
    assert assert_as_pillow(cmyk[: at + 11] + b"\2" + cmyk[at + 12 :])


def test_a_jpeg_of_too_many_pixels_is_refused_before_it_is_unpacked() -> None:
    side = (65_500).to_bytes(2, "big")
    assert MAX_PIXELS < 65_500**2
    with pytest.raises(ImageError, match="decompression bomb"):
        decode(SMALL.replace(b"\0\x0c\0\x14\3", side + side + b"\3"), "x")


def shuffled_files() -> Iterator[bytes]:
    """Of one size or another, whole or cut."""
    for size, quality in product(((8, 8), (9, 30), (64, 64)), (50, 90)):
        data = encoded(noise(*size), quality=quality)
        yield from (data, data[: len(data) // 2])


def test_threads_do_not_disturb_each_other() -> None:
    files = list(shuffled_files())
    start = threading.Barrier(4)

    def work(seed: int) -> None:
        start.wait()
        for choice in np.random.default_rng(seed).integers(0, len(files), 300):
            assert_as_pillow(files[choice])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
