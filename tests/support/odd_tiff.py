"""TIFF files that are shown: every depth, order, layout and compression, palettes and alpha."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from support.odd_picture import HEIGHT, WIDTH, Odd, in_levels, numbers, on_white
from support.opencv import by_opencv_unchanged
from support.tiff_file import CODES, tiff

WHITE_IS_0, GREY, RGB, PALETTE, MASK, CMYK, YCC, LAB = 0, 1, 2, 3, 4, 5, 6, 8
LAYOUTS: list[dict[str, Any]] = [{}, {"rows": 3}, {"tile": (16, 16)}, {"tile": (32, 16)}]


def by_tifffile(data: bytes) -> np.ndarray:
    """The numbers of the first page, bands last."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        assert isinstance(page, tifffile.TiffPage)
        found = page.asarray()
        if page.planarconfig == 2 and page.samplesperpixel > 1:
            found = np.moveaxis(found, 0, -1)
        return found.reshape(HEIGHT, WIDTH, -1).astype(np.uint16)


def greys() -> Iterator[Odd]:
    """Every depth, either way round, in every layout; compressed as well."""
    for bits in range(1, 17):
        samples = numbers(bits)
        grey = samples / (2**bits - 1)
        for i, (photometric, order) in enumerate(((0, "<"), (0, ">"), (1, "<"), (1, ">"))):
            for j, layout in enumerate(LAYOUTS):
                code = list(CODES)[(bits + i + j) % len(CODES)] if i % 2 else 1
                big = (i + j) % 3 == 2
                data = tiff(samples, bits, photometric, order=order, code=code, big=big, **layout)
                name = (
                    f"grey {bits} bits, photometric {photometric}, {order}, {layout}, code {code}, big {big}"
                )
                shown = in_levels(grey if photometric else 1 - grey)
                readers = [by_tifffile]
                if bits in (8, 16) and photometric and code in (1, 5, 8) and not big and "tile" not in layout:
                    readers.append(by_opencv_unchanged)
                yield Odd(name, data, shown, numbers=samples, readers=tuple(readers))


def colours() -> Iterator[Odd]:
    for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16):
        for planar in (False, True):
            for layout in LAYOUTS:
                samples = numbers(bits, 3)
                order, code = (("<", 1), (">", 8))[(bits // 2 + planar + len(layout)) % 2]
                data = tiff(samples, bits, RGB, planar=planar, order=order, code=code, **layout)
                name = f"RGB {bits} bits, planar {planar}, {layout}, {order}, code {code}"
                shown = in_levels(samples / (2**bits - 1))
                yield Odd(name, data, shown, numbers=samples, readers=(by_tifffile,))
    for bits, code, planar, order in [
        (8, 5, 0, "<"),
        (8, 8, 1, ">"),
        (16, 5, 0, "<"),
        (16, 8, 0, ">"),
        (16, 50000, 1, "<"),
    ]:
        for bands, photometric in ((1, GREY), (3, RGB)):
            samples = numbers(bits, bands)
            for layout in LAYOUTS:
                data = tiff(
                    samples,
                    bits,
                    photometric,
                    predictor=2,
                    code=code,
                    planar=bool(planar),
                    order=order,
                    **layout,
                )
                name = f"predictor, {bands} bands of {bits} bits, {code}, planar {planar}, {order}, {layout}"
                yield Odd(
                    name, data, in_levels(samples / (2**bits - 1)), numbers=samples, readers=(by_tifffile,)
                )
    for bits in (8, 12, 16):
        inks = numbers(bits, 4)
        light = 1 - inks / (2**bits - 1)
        for planar in (False, True):
            data = tiff(inks, bits, CMYK, planar=planar)
            shown = in_levels(light[..., :3] * light[..., 3:])
            yield Odd(
                f"CMYK {bits} bits, planar {planar}",
                data,
                shown,
                within=twice_rounded(bits),
                numbers=inks,
                readers=(by_tifffile,),
            )


def twice_rounded(bits: int) -> float:
    """Levels lost by a product that is rounded to the file's depth before it is to 8 bits."""
    return 0.5001 + (127.5 / (2**bits - 1) if bits != 8 else 0)


def palettes() -> Iterator[Odd]:
    for bits in (1, 2, 3, 4, 8):
        indices = numbers(bits)
        for top, name in ((65535, "16"), (255, "8")):
            colours = np.random.default_rng(bits).integers(0, top + 1, (2**bits, 3))
            colours[0] = top
            for code, layout in ((1, LAYOUTS[0]), (8, LAYOUTS[2])):
                data = tiff(
                    indices, bits, PALETTE, code=code, tags={320: (3, colours.T.ravel().tolist())}, **layout
                )
                shown = in_levels(colours[indices[..., 0]] / top)
                yield Odd(
                    f"palette {bits} bits, of {name}-bit colours, code {code}",
                    data,
                    shown,
                    numbers=indices,
                    readers=(by_tifffile,),
                )


def transparent() -> Iterator[Odd]:
    for bits in (4, 8, 12, 16):
        for bands, photometric in ((2, GREY), (4, RGB)):
            for planar in (False, True):
                samples = numbers(bits, bands)
                alpha = samples[..., -1:] / (2**bits - 1)
                name = f"alpha, {bands} bands of {bits} bits, planar {planar}"
                data = tiff(samples, bits, photometric, planar=planar, tags={338: (3, [2])})
                shown = in_levels(on_white(samples[..., :-1] / (2**bits - 1), alpha))
                yield Odd(
                    name, data, shown, within=twice_rounded(bits), numbers=samples, readers=(by_tifffile,)
                )
                dark = samples.copy()
                dark[..., :-1] = np.minimum(dark[..., :-1], dark[..., -1:])
                data = tiff(dark, bits, photometric, planar=planar, tags={338: (3, [1])})
                shown = in_levels(dark[..., :-1] / (2**bits - 1) + 1 - alpha)
                yield Odd(f"multiplied {name}", data, shown, numbers=dark, readers=(by_tifffile,))
    samples = numbers(8, 4)
    rgb = in_levels(samples[..., :3] / 255)
    yield Odd("RGB and a band of no colour", tiff(samples, 8, RGB, tags={338: (3, [0])}), rgb)
    yield Odd(
        "RGB and a band not described",
        tiff(samples, 8, RGB),
        refused="a TIFF with 4 bands, the last of unknown meaning",
    )
    samples[..., 3] = 255
    yield Odd("RGB and an opaque band not described", tiff(samples, 8, RGB), rgb)


def pictures_in_tiff() -> Iterator[Odd]:
    """Compressions that make the pixels themselves, written by tifffile and Pillow."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    smooth = np.stack([10 * x, 20 * y, 5 * (x + y)], axis=-1).astype(np.uint8)
    kinds: tuple[tuple[str, np.ndarray, dict[str, Any]], ...] = (
        ("YCbCr", smooth, {"photometric": "rgb"}),
        ("grey", smooth[..., 0], {"photometric": "minisblack"}),
        ("grey, white is 0", smooth[..., 0], {"photometric": "miniswhite"}),
        ("tiles", smooth, {"photometric": "rgb", "tile": (16, 16)}),
    )
    for name, pixels, options in kinds:
        file = io.BytesIO()
        tifffile.imwrite(file, pixels, compression="jpeg", compressionargs={"level": 95}, **options)
        decoded = by_tifffile(file.getvalue()).astype(np.float64)
        shown = np.broadcast_to(255 - decoded if "white" in name else decoded, (HEIGHT, WIDTH, 3))
        yield Odd(f"JPEG in TIFF, {name}", file.getvalue(), shown, within=2)
    file = io.BytesIO()
    Image.fromarray(smooth).convert("CMYK").save(file, "TIFF", compression="jpeg", quality=95)
    light = 1 - by_tifffile(file.getvalue()) / 255
    yield Odd("JPEG in TIFF, CMYK", file.getvalue(), in_levels(light[..., :3] * light[..., 3:]), within=2)
    bits = numbers(1)[..., 0]
    for code in ("tiff_ccitt", "group3", "group4"):
        file = io.BytesIO()
        Image.fromarray(bits.astype(bool)).save(file, "TIFF", compression=code)
        yield Odd(
            f"fax {code}",
            file.getvalue(),
            in_levels(bits[..., None]),
            numbers=bits[..., None],
            readers=(by_opencv_bits,),
        )


def by_opencv_bits(data: bytes) -> np.ndarray:
    return (by_opencv_unchanged(data)[..., :1] > 127).astype(np.uint8)
