"""BMP files: palettes and greys of 1, 4 and 8 bits, masks, alpha, and both directions."""

import struct
from collections.abc import Iterator

import numpy as np

from support.odd_picture import HEIGHT, WIDTH, Odd, in_levels, numbers, on_white
from support.opencv import by_opencv
from support.tiff_file import pack


def bmp(
    pixels: bytes,
    bits: int,
    *,
    palette: bytes = b"",
    masks: bytes = b"",
    header: int = 40,
    height: int = HEIGHT,
    code: int = 0,
    colours: int = 0,
) -> bytes:
    """Rows from below, or from above where the height is negative. Masks stand in the header or behind it."""
    if header == 12:
        info = struct.pack("<IHHHH", 12, WIDTH, HEIGHT, 1, bits)
    else:
        info = struct.pack(
            "<IiiHHIIiiII", header, WIDTH, height, 1, bits, code, len(pixels), 0, 0, colours, 0
        )
        info = (info + (masks if header > 40 else b"")).ljust(header, b"\0") + (
            masks if header == 40 else b""
        )
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + palette + pixels


def rows(samples: np.ndarray, bits: int, from_below: bool = True) -> bytes:
    """(H, W) or (H, W, bytes), each row to whole words of four bytes."""
    height = len(samples)
    flat = samples.reshape(height, -1)
    packed = np.frombuffer(pack(flat, 8 if samples.ndim == 3 else bits, "<"), np.uint8).reshape(height, -1)
    padded = np.pad(packed, ((0, 0), (0, -packed.shape[1] % 4)))
    return padded[:: -1 if from_below else 1].tobytes()


def bmps() -> Iterator[Odd]:
    for bits in (1, 4, 8):
        indices = numbers(bits, seed=6)[..., 0].astype(int)
        for name, colours in (
            ("colours", np.random.default_rng(bits).integers(0, 256, (2**bits, 3))),
            ("greys from 0 on", np.repeat(np.arange(2**bits)[:, None], 3, 1)),
            ("all greys", np.repeat(np.linspace(0, 255, 2**bits).astype(int)[:, None], 3, 1)),
            (
                "all greys, the other way round",
                np.repeat(np.linspace(255, 0, 2**bits).astype(int)[:, None], 3, 1),
            ),
            ("two greys", np.array([[0] * 3, [255] * 3])),
            ("two greys, the other way round", np.array([[255] * 3, [0] * 3])),
        ):
            used = indices % len(colours)
            shown = in_levels(colours[used] / 255)
            quads = np.pad(colours[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
            for from_below in (True, False):
                data = bmp(
                    rows(used, bits, from_below),
                    bits,
                    palette=quads,
                    height=HEIGHT if from_below else -HEIGHT,
                    colours=len(colours),
                )
                yield Odd(
                    f"BMP {bits} bits, {name}, from below {from_below}", data, shown, viewers=(by_opencv,)
                )
            if len(colours) == 2**bits:
                triples = colours[:, ::-1].astype(np.uint8).tobytes()
                yield Odd(
                    f"BMP {bits} bits of OS/2, {name}",
                    bmp(rows(used, bits), bits, palette=triples, header=12),
                    shown,
                    viewers=(by_opencv,),
                )
    yield from bmps_by_run()
    yield from bmps_of_colours()


def bmps_by_run() -> Iterator[Odd]:
    for bits, code in ((8, 1), (4, 2)):
        colours = np.random.default_rng(bits).integers(0, 256, (2**bits, 3))
        indices = numbers(bits, seed=6)[..., 0].astype(int)
        indices[4] = 7  # a row in one run
        runs = b"".join(
            (bytes([WIDTH, 7 * (17 if bits == 4 else 1)]) if i == 4 else one_by_one(row, bits)) + b"\0\0"
            for i, row in reversed(list(enumerate(indices)))
        )
        quads = np.pad(colours[:, ::-1], ((0, 0), (0, 1))).astype(np.uint8).tobytes()
        data = bmp(runs + b"\0\1", bits, palette=quads, code=code)
        yield Odd(f"BMP {bits} bits by run", data, in_levels(colours[indices] / 255), viewers=(by_opencv,))


def one_by_one(row: np.ndarray, bits: int) -> bytes:
    return b"".join(bytes([1, index << 4 if bits == 4 else index]) for index in row.tolist())


def bmps_of_colours() -> Iterator[Odd]:
    rgb = numbers(8, 3, seed=7)
    shown = in_levels(rgb / 255)
    for header in (12, 40, 108, 124):
        yield Odd(
            f"BMP 24 bits, header {header}",
            bmp(rows(rgb[..., ::-1], 24), 24, header=header),
            shown,
            viewers=(by_opencv,),
        )
    yield Odd("BMP 24 bits from above", bmp(rows(rgb[..., ::-1], 24, False), 24, height=-HEIGHT), shown)
    bgrx = np.dstack([rgb[..., ::-1], numbers(8, seed=8)])
    yield Odd("BMP 32 bits, the last not used", bmp(rows(bgrx, 32), 32), shown, viewers=(by_opencv,))
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    with_alpha = in_levels(on_white(rgb / 255, bgrx[..., 3:] / 255))
    for header in (108, 124):
        yield Odd(
            f"BMP with alpha, header {header}",
            bmp(rows(bgrx, 32), 32, header=header, masks=masks, code=3),
            with_alpha,
        )
    yield Odd(
        "BMP 32 bits, masks without alpha",
        bmp(rows(bgrx, 32), 32, masks=masks[:12], code=3),
        shown,
        viewers=(by_opencv,),
    )
    for name, sizes, places in (("555", (5, 5, 5), (10, 5, 0)), ("565", (5, 6, 5), (11, 5, 0))):
        parts = np.stack([numbers(size, seed=9 + i)[..., 0] for i, size in enumerate(sizes)], axis=-1).astype(
            np.uint16
        )
        words = np.bitwise_or.reduce(parts << np.array(places, np.uint16), axis=2)
        levels = in_levels(parts / (2 ** np.array(sizes) - 1))
        masks = struct.pack(
            "<3I", *((2**size - 1) << place for size, place in zip(sizes, places, strict=True))
        )
        yield Odd(f"BMP {name}", bmp(rows(words, 16), 16, masks=masks, code=3), levels, within=1)
        if name == "555":
            yield Odd("BMP 555 without masks", bmp(rows(words, 16), 16), levels, within=1)
    few = struct.pack("<3I", 0xF00, 0xF0, 0xF)
    yield Odd(
        "BMP 444",
        bmp(rows(numbers(12, seed=1)[..., 0], 16), 16, masks=few, code=3),
        refused="Unsupported BMP bitfields",
    )
    yield Odd("BMP of a JPEG", bmp(b"\xff\xd8\xff", 24, code=4), refused="Unsupported BMP compression")
    yield Odd("BMP 64 bits", bmp(bytes(8 * WIDTH * HEIGHT), 64), refused="pixel depth (64)")
    yield Odd("BMP cut short", bmp(rows(rgb, 24), 24)[:-99], refused="can't be decoded")
