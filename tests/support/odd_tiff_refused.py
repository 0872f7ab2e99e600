"""TIFF files that are refused: kinds that have no agreed look, and damaged ones."""

import io
from collections.abc import Iterator

import tifffile

from support.odd_picture import Odd, numbers
from support.odd_tiff import CMYK, GREY, LAB, MASK, PALETTE, RGB, YCC
from support.tiff_file import CODES, tiff


def refused() -> Iterator[Odd]:
    grey = numbers(8)
    for bands in (2, 3, 4, 5, 8):
        yield Odd(
            f"grey, {bands} bands", tiff(numbers(8, bands), 8, GREY), refused=f"a TIFF with {bands} bands"
        )
    yield Odd(
        "RGB, 5 bands", tiff(numbers(8, 5), 8, RGB, tags={338: (3, [0, 0])}), refused="a TIFF with 5 bands"
    )
    yield Odd("RGB, 2 bands", tiff(numbers(8, 2), 8, RGB), refused="a TIFF with 2 bands")
    yield Odd(
        "palette and alpha",
        tiff(numbers(8, 2), 8, PALETTE, tags={338: (3, [2])}),
        refused="a TIFF with 2 bands",
    )
    for format_, word in ((2, "signed 8-bit"), (3, "floating-point 8-bit"), (6, "complex")):
        yield Odd(
            f"samples {word}", tiff(grey, 8, GREY, tags={339: (3, [format_])}), refused=f"a TIFF with {word}"
        )
    for dtype, word in (
        ("u4", "32-bit"),
        ("f4", "floating-point 32-bit"),
        ("f2", "floating-point 16-bit"),
        ("i2", "signed 16-bit"),
        ("f8", "floating-point 64-bit"),
        ("i4", "signed 32-bit"),
    ):
        for order in ("<", ">"):
            file = io.BytesIO()
            tifffile.imwrite(file, grey[..., 0].astype(dtype), byteorder=order, photometric="minisblack")
            yield Odd(
                f"samples of type {dtype}, {order}", file.getvalue(), refused=f"a TIFF with {word} samples"
            )
    for photometric, word in (
        (LAB, "in Lab"),
        (MASK, "mask"),
        (YCC, "YCbCr without JPEG"),
        (32803, "camera"),
        (77, "type 77"),
    ):
        bands = 3 if photometric in (LAB, YCC) else 1
        yield Odd(f"photometric {photometric}", tiff(numbers(8, bands), 8, photometric), refused=word)
    yield Odd(
        "bands of other depths",
        tiff(numbers(8, 3), 8, RGB, tags={258: (3, [5, 6, 5])}),
        refused="bands of 5, 6, 5 bits",
    )
    yield Odd(
        "other inks", tiff(numbers(8, 4), 8, CMYK, tags={332: (3, [2])}), refused="inks other than CMYK"
    )
    for code, word in ((6, "obsolete JPEG"), (34712, "JPEG 2000"), (34887, "LERC"), (12345, "unknown")):
        yield Odd(f"compression {code}", tiff(grey, 8, GREY, tags={259: (3, [code])}), refused=word)
    for code in (5, 8, 32773):
        data = tiff(grey, 8, GREY, code=code, fill_order=2)
        yield Odd(f"lowest bit first, code {code}", data, refused=f"reversed bits in compression {code}")
    yield Odd("predictor 3", tiff(grey, 8, GREY, code=8, tags={317: (3, [3])}), refused="predictor 3")
    yield Odd("12-bit JPEG in TIFF", tiff(numbers(12), 12, GREY, tags={259: (3, [7])}), refused="12 bits")
    yield Odd(
        "a strip is missing",
        tiff(grey, 8, GREY, rows=3, tags={273: (4, [8, 8, 8])}),
        refused="expected 4 strips",
    )
    yield Odd(
        "a sparse tile",
        tiff(grey, 8, GREY, tile=(16, 16), tags={324: (4, [8, 0])}),
        refused="expected 2 strips or tiles, found 1",
    )
    yield Odd("no width", tiff(grey, 8, GREY, without=(256,)), refused="tag 256 is missing")
    yield Odd("no meaning", tiff(grey, 8, GREY, without=(262,)), refused="tag 262 is missing")
    for code in CODES:
        data = tiff(grey, 8, GREY, code=code, tags={279: (4, [20])} if code > 1 else None)
        start = data if code > 1 else data[:8] + data[8 + 50 :]
        yield Odd(f"too few bytes, code {code}", start, refused="can't be decoded")
