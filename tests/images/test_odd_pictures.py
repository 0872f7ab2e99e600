"""Pictures of more than a thousand odd kinds: the pixels that their numbers stand for, or a refusal by name.

What is expected follows from the numbers that were written. Other decoders check that the files say so:
tifffile and pypng read the same numbers; OpenCV and pypng show the same picture, where they are trusted with
the kind. OpenCV isn't with alpha and tiles in TIFF, transparent greys in PNG, small frames in GIF
and masks in BMP.
"""

from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support import (
    odd_bmp,
    odd_formats,
    odd_gif,
    odd_jpeg,
    odd_png,
    odd_pnm,
    odd_tiff,
    odd_tiff_refused,
    odd_tiff_tags,
    odd_webp,
)
from support.odd_picture import Odd

from pipeline.images.decode import ImageError, decode
from pipeline.images.pillow import hush

Maker = Callable[[], Iterator[Odd]]
MAKERS: dict[str, tuple[Maker, int, int]] = {
    "TIFF, grey": (odd_tiff.greys, 256, 0),
    "TIFF, colours": (odd_tiff.colours, 118, 0),
    "TIFF, palettes": (odd_tiff.palettes, 20, 0),
    "TIFF, transparent": (odd_tiff.transparent, 34, 1),
    "TIFF, fax and JPEG": (odd_tiff.pictures_in_tiff, 8, 0),
    "TIFF, turned": (odd_tiff_tags.turned, 16, 0),
    "TIFF, odd tags": (odd_tiff_tags.odd_details, 27, 0),
    "TIFF, refused": (odd_tiff_refused.refused, 0, 50),
    "PNG": (odd_png.plain, 30, 0),
    "PNG, transparent": (odd_png.transparent, 130, 0),
    "PNG, turned": (odd_png.turned, 45, 0),
    "PNG, useless chunks": (odd_png.useless, 44, 0),
    "PNG, refused": (odd_png.refused, 0, 6),
    "BMP": (odd_bmp.bmps, 64, 4),
    "PNM": (odd_pnm.pnms, 54, 28),
    "GIF": (odd_gif.gifs, 72, 1),
    "WebP": (odd_webp.webps, 33, 1),
    "JPEG": (odd_jpeg.jpegs, 70, 11),
    "other formats": (odd_formats.others, 0, 20),
}
"""How many of each must be shown, and how many refused."""


@pytest.fixture(autouse=True)
def hushed() -> None:
    hush()


def check(odd: Odd) -> str:
    """Whether a picture comes out as it should; what is wrong with it otherwise."""
    for reader in odd.readers:
        if not np.array_equal(reader(odd.data), odd.numbers if odd.numbers is not None else ()):
            return f"{reader.__name__} reads other numbers"
    try:
        pixels = decode(odd.data, "x")
    except ImageError as error:
        return "" if odd.refused and odd.refused in error.reason else f"refused: {error.reason}"
    if odd.shown is None:
        return "shown"
    if pixels.dtype != np.uint8 or not pixels.flags.c_contiguous or pixels.shape != odd.shown.shape:
        return f"{pixels.dtype} {pixels.shape}, expected {odd.shown.shape}"
    off = abs(pixels - odd.shown).max()
    others = [v.__name__ for v in odd.viewers if abs(v(odd.data) - odd.shown).max() > max(odd.within, 1)]
    return f"off by {off}; so are {others}" if off > odd.within or others else ""


@pytest.mark.parametrize("kind", MAKERS)
def test_each_picture_is_what_its_numbers_say_or_refused_by_name(kind: str) -> None:
    make, shown, refused = MAKERS[kind]
    found = list(make())
    wrong = {odd.name: reason for odd in found if (reason := check(odd))}
    assert not wrong
    assert Counter(odd.shown is None for odd in found) == Counter({False: shown, True: refused})
    assert len({odd.name for odd in found}) == len(found)


def test_there_are_enough_of_both() -> None:
    assert sum(shown for _, shown, _ in MAKERS.values()) >= 900
    assert sum(refused for _, _, refused in MAKERS.values()) >= 100
