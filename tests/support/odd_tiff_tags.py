"""TIFF files that are turned, or have tags that are missing, odd or of no use."""

import io
from collections.abc import Iterator

from PIL import Image

from support.odd_picture import ORIENTATIONS, Odd, in_levels, numbers, upright
from support.odd_tiff import GREY, RGB, by_tifffile
from support.tiff_file import tiff


def turned() -> Iterator[Odd]:
    samples = numbers(12, 3)
    for orientation in ORIENTATIONS:
        data = tiff(samples, 12, RGB, tags={274: (3, [orientation])})
        yield Odd(f"orientation {orientation}", data, upright(in_levels(samples / 4095), orientation))
    for field in ((5, [6, 1]), (2, [54, 0]), (3, [6, 6]), (3, []), (7, [1] * 9)):
        data = tiff(samples, 12, RGB, tags={274: field})
        yield Odd(f"orientation that can't be read: {field}", data, in_levels(samples / 4095))


def odd_details() -> Iterator[Odd]:
    grey = numbers(8)
    shown = in_levels(grey / 255)
    for bits in (1, 8, 12, 16):
        samples = numbers(bits)
        data = tiff(samples, bits, GREY, fill_order=2)
        name = f"lowest bit first, {bits} bits"
        yield Odd(name, data, in_levels(samples / (2**bits - 1)), numbers=samples, readers=(by_tifffile,))
    useless = {
        "a broken profile": {34675: (7, list(range(50)))},
        "a directory of EXIF that isn't there": {34665: (4, [2**31])},
        "an absurd resolution": {282: (5, [0, 0]), 283: (5, [2**32 - 1, 0]), 296: (3, [77])},
        "text of the wrong type": {270: (5, [1, 0]), 305: (3, [7]), 306: (4, [1, 2, 3])},
        "private tags": {tag: (4, [tag]) for tag in range(60000, 60100)},
        "broken Photoshop data": {34377: (7, [255] * 40), 33723: (4, [2**32 - 1])},
        "XMP": {700: (7, list(b"<x tiff:"))},
        "a size of pages": {254: (4, [2]), 297: (3, [9, 1]), 280: (3, [7]), 281: (3, [9])},
    }
    for name, tags in useless.items():
        for big in (False, True):
            yield Odd(f"{name}, big {big}", tiff(grey, 8, GREY, tags=tags, big=big), shown)
    sound = tiff(grey, 8, GREY)
    yield Odd("junk at the end", sound + b"junk" * 99, shown)
    yield Odd("no rows per strip", tiff(grey, 8, GREY, without=(278,)), shown)
    yield Odd("no planar configuration, no predictor", tiff(grey, 8, GREY, without=(284, 317)), shown)
    yield Odd("no byte counts", tiff(grey, 8, GREY, without=(279,)), shown)
    yield Odd(
        "one depth for three bands",
        tiff(numbers(8, 3), 8, RGB, tags={258: (3, [8])}),
        in_levels(numbers(8, 3) / 255),
    )
    yield Odd("samples of no format", tiff(grey, 8, GREY, tags={339: (3, [4])}), shown)
    pages = io.BytesIO()
    Image.fromarray(grey[..., 0]).save(pages, "TIFF", save_all=True, append_images=[Image.new("RGB", (5, 5))])
    yield Odd("two pages", pages.getvalue(), shown)
