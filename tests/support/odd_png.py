"""PNG files: every depth and colour type, transparent colours, interlace, orientations, broken metadata."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from support.encoding import chunk
from support.odd_picture import ORIENTATIONS, Odd, in_levels, numbers, on_white, upright
from support.png_file import by_opencv_on_white, by_pypng, by_pypng_on_white, png
from support.tiff_file import with_directory

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
KINDS = [(GREY, bits) for bits in (1, 2, 4, 8, 16)] + [(PALETTE, bits) for bits in (1, 2, 4, 8)]
KINDS += [(colour, bits) for colour in (RGB, GREY_ALPHA, RGBA) for bits in (8, 16)]


def shown(samples: np.ndarray, bits: int, colour: int) -> np.ndarray:
    """(H, W, 1 or 3) of 0..1."""
    levels = samples / (2**bits - 1)
    return on_white(levels[..., :-1], levels[..., -1:]) if colour in (GREY_ALPHA, RGBA) else levels


def palette(bits: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 256, (2**bits, 3), np.uint8)


def plain() -> Iterator[Odd]:
    for colour, bits in KINDS:
        samples = numbers(bits, CHANNELS[colour], seed=1)
        chunks = [chunk(b"PLTE", palette(bits).tobytes())] if colour == PALETTE else []
        picture = palette(bits)[samples[..., 0]] / 255 if colour == PALETTE else shown(samples, bits, colour)
        for interlaced in (False, True):
            data = png(samples, bits, colour, *chunks, interlaced=interlaced)
            name = f"colour type {colour}, {bits} bits, interlaced {interlaced}"
            yield Odd(
                name,
                data,
                in_levels(picture),
                numbers=samples,
                readers=(by_pypng,),
                viewers=(by_opencv_on_white, by_pypng_on_white),
            )


def transparent() -> Iterator[Odd]:
    """A colour, or a palette's entries, that aren't seen; bits beyond the depth don't count."""
    for colour, bits in KINDS:
        samples = numbers(bits, CHANNELS[colour], seed=2)
        for interlaced in (False, True):
            name = f"transparent, colour type {colour}, {bits} bits, interlaced {interlaced}"
            if colour == PALETTE:
                for count in sorted({1, 2, 2**bits}):
                    alphas = np.random.default_rng(count).integers(0, 256, count, np.uint8)
                    alphas[0] = 0
                    chunks = chunk(b"PLTE", palette(bits).tobytes()), chunk(b"tRNS", alphas.tobytes())
                    alpha = np.pad(alphas, (0, 2**bits - count), constant_values=255)[samples] / 255
                    picture = on_white(palette(bits)[samples[..., 0]] / 255, alpha)
                    data = png(samples, bits, colour, *chunks, interlaced=interlaced)
                    yield Odd(
                        f"{name}, {count} entries",
                        data,
                        in_levels(picture),
                        viewers=(by_opencv_on_white, by_pypng_on_white),
                    )
                continue
            for row, column in ((0, 0), (3, 4), (10, 20)):
                samples = samples.copy()
                key = samples[row, column]
                samples[row, :9] = key
                hidden = (samples == key).all(axis=2, keepdims=True) & (colour in (GREY, RGB))
                picture = np.where(hidden, 1, shown(samples, bits, colour))
                for beyond in (0, 0x5500) if bits <= 8 else (0,):
                    values = [int(value) | beyond for value in key]
                    data = png(
                        samples,
                        bits,
                        colour,
                        chunk(b"tRNS", struct.pack(f">{len(key)}H", *values)),
                        interlaced=interlaced,
                    )
                    readers = (by_pypng,) if colour in (GREY, RGB) else ()
                    viewers = () if beyond or not readers else (by_pypng_on_white,)
                    viewers += (by_opencv_on_white,) if viewers and colour == RGB else ()
                    yield Odd(
                        f"{name}, {values} of row {row}",
                        data,
                        in_levels(picture),
                        numbers=samples,
                        readers=readers,
                        viewers=viewers,
                    )


def exif(orientation: int, order: str = ">") -> bytes:
    return with_directory(b"", {271: (2, list(b"maker\0")), 274: (3, [orientation])}, order, False)


def xmp(orientation: int) -> bytes:
    return b"XML:com.adobe.xmp\0\0\0\0\0" + b'<x tiff:Orientation="%d"/>' % orientation


def turned() -> Iterator[Odd]:
    samples = numbers(8, 3, seed=3)
    levels = in_levels(samples / 255)
    for orientation in ORIENTATIONS:
        for order in "<>":
            data = png(samples, 8, RGB, chunk(b"eXIf", exif(orientation, order)))
            yield Odd(f"EXIF {orientation} {order}", data, upright(levels, orientation))
        late = png(samples, 8, RGB, after=(chunk(b"eXIf", exif(orientation)),))
        yield Odd(f"EXIF {orientation} behind the pixels", late, upright(levels, orientation))
        data = png(samples, 8, RGB, chunk(b"iTXt", xmp(orientation)))
        yield Odd(f"XMP {orientation}", data, upright(levels, orientation))
    both = png(samples, 8, RGB, chunk(b"iTXt", xmp(3)), chunk(b"eXIf", exif(6)))
    yield Odd("EXIF before XMP", both, upright(levels, 6))


def useless() -> Iterator[Odd]:
    """Chunks that nobody needs: huge, many, damaged, at odd places."""
    samples = numbers(8, 3, seed=4)
    huge = zlib.compress(bytes(3 << 20))
    many = [chunk(b"zTXt", b"Comment%d\0\0" % i + zlib.compress(bytes(1 << 20))) for i in range(80)]
    broken = chunk(b"tEXt", b"Title\0words")[:-1] + b"?"
    chunks = {
        "a huge profile": [chunk(b"iCCP", b"icc\0\0" + huge)],
        "huge zTXt": [chunk(b"zTXt", b"Comment\0\0" + huge)],
        "huge iTXt": [chunk(b"iTXt", b"Comment\0\1\0en\0\0" + huge)],
        "a huge plain text": [chunk(b"tEXt", b"workflow\0" + b"x" * (5 << 20))],
        "80 MB of texts": many,
        "a profile that is no profile": [chunk(b"iCCP", b"icc\0\0junk")],
        "a profile without an end to its name": [chunk(b"iCCP", b"x" * 200)],
        "a text with a wrong checksum": [broken],
        "a text of no encoding": [chunk(b"iTXt", b"a\xff\0\1\1\xfe\0\xfd\0\xfc")],
        "no resolution": [chunk(b"pHYs", b"\0\0")],
        "an absurd resolution": [chunk(b"pHYs", struct.pack(">IIB", 2**32 - 1, 0, 9))],
        "gamma": [chunk(b"gAMA", struct.pack(">I", 1)), chunk(b"cHRM", bytes(32)), chunk(b"sRGB", b"\x09")],
        "gamma cut short": [chunk(b"gAMA", b"\1"), chunk(b"cHRM", b"\1"), chunk(b"sRGB", b"")],
        "a background": [chunk(b"bKGD", struct.pack(">3H", 255, 0, 0))],
        "broken EXIF": [chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff")],
        "EXIF cut short": [chunk(b"eXIf", exif(6)[:12])],
        "EXIF with a wrong checksum": [chunk(b"eXIf", exif(6))[:-1] + b"?"],
        "no frames of an animation": [chunk(b"acTL", struct.pack(">II", 0, 0))],
        "an animation cut short": [chunk(b"acTL", b"\0"), chunk(b"fcTL", b"\0")],
        "private chunks": [chunk(b"prVt", b"x" * 1000)] * 9,
        "time of no day": [chunk(b"tIME", b"\xff" * 7), chunk(b"hIST", b"\0"), chunk(b"sBIT", b"\0\0\0")],
    }
    levels = in_levels(samples / 255)
    for name, some in chunks.items():
        yield Odd(name, png(samples, 8, RGB, *some), levels)
        yield Odd(f"{name}, behind the pixels", png(samples, 8, RGB, after=tuple(some)), levels)
    yield Odd("junk at the end", png(samples, 8, RGB) + b"junk" * 99, levels)
    late = png(samples, 8, RGB, after=(chunk(b"tRNS", samples[0, 0].astype(">u2").tobytes()),))
    yield Odd("a transparent colour behind the pixels, which doesn't count", late, levels)


def refused() -> Iterator[Odd]:
    samples = numbers(8, 3, seed=5)
    key = chunk(b"tRNS", bytes(6))
    yield Odd(
        "transparent colour cut short",
        png(samples, 8, RGB, chunk(b"tRNS", b"\0\0")),
        refused="transparent colour is cut short",
    )
    yield Odd(
        "transparent colour damaged",
        png(samples, 8, RGB, key[:-1] + b"?"),
        refused="transparent colour is damaged",
    )
    apple = png(samples, 8, RGB).replace(
        b"\n\0\0\0\rIHDR", b"\n" + chunk(b"CgBI", bytes(4)) + b"\0\0\0\rIHDR"
    )
    yield Odd("a PNG for iPhones", apple, refused="Apple's own kind")
    yield Odd("no palette", png(numbers(8), 8, PALETTE), refused="can't be decoded")
    yield Odd("a depth of RGB that there isn't", png(samples, 4, RGB), refused="can't be decoded")
    data = png(samples, 8, RGB)
    yield Odd("half a file", data[: len(data) // 2], refused="can't be decoded")


def all_pngs() -> list[Odd]:
    return [odd for make in (plain, transparent, turned, useless, refused) for odd in make()]
