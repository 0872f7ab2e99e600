"""JPEG files: four components, other depths, lossless, orientations and broken metadata."""

import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np
from PIL import Image

from support.encoding import encoded
from support.odd_picture import HEIGHT, ORIENTATIONS, WIDTH, Odd, in_levels, numbers, upright
from support.odd_png import exif
from support.opencv import by_opencv


def smooth() -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([10 * x, 20 * y, 5 * (x + y)], axis=-1).clip(0, 255).astype(np.uint8)


def jpegs() -> Iterator[Odd]:
    rgb = smooth()
    for name, pixels, options in (
        ("RGB", rgb, {}),
        ("grey", rgb[..., 0], {}),
        ("progressive", rgb, {"progressive": True}),
        ("4:4:4", rgb, {"subsampling": 0}),
        ("RGB without a colour transform", rgb, {"keep_rgb": True}),
    ):
        data = encoded(pixels, "JPEG", **options)
        yield Odd(f"JPEG {name}", data, viewers=(by_opencv,), shown=by_opencv(data).astype(float), within=0)
    data = encoded(rgb, "JPEG")
    seen = by_opencv(data).astype(float)
    for orientation in ORIENTATIONS:
        for order in "<>":
            segment = jpeg_segment(0xE1, b"Exif\0\0" + exif(orientation, order))
            yield Odd(
                f"JPEG EXIF {orientation} {order}", data[:2] + segment + data[2:], upright(seen, orientation)
            )
        segment = jpeg_segment(
            0xE1,
            b"http://ns.adobe.com/xap/1.0/\0<x><tiff:Orientation>%d</tiff:Orientation></x>" % orientation,
        )
        yield Odd(f"JPEG XMP {orientation}", data[:2] + segment + data[2:], upright(seen, orientation))
    yield from jpegs_of_four(rgb)
    useless: dict[str, list[tuple[int, bytes]]] = {
        "no end to the JFIF": [(0xE0, b"JFIF\0\1")],
        "JFIF of nothing": [(0xE0, b"JFIF")],
        "EXIF cut short": [(0xE1, b"Exif\0\0" + exif(6)[:15])],
        "EXIF without order": [(0xE1, b"Exif\0\0junk" + exif(6))],
        "EXIF of nothing": [(0xE1, b"Exif\0\0")],
        "a directory outside": [(0xE1, b"Exif\0\0MM\0*\x7f\xff\xff\xff")],
        "a broken profile": [(0xE2, b"ICC_PROFILE\0")],
        "a profile in odd parts": [(0xE2, b"ICC_PROFILE\0\7\2x")] * 3,
        "Photoshop's data cut short": [(0xED, b"Photoshop 3.0\x008BIM")],
        "Photoshop's resolution cut short": [(0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\x10\0\1")],
        "pictures of nothing": [(0xE2, b"MPF\0" + bytes(40))],
        "a comment of no encoding": [(0xFE, b"\xff\xfe\0\xda")],
        "2 MB of segments": [(0xE2, b"x" * 65000)] * 32,
        "an Adobe segment cut short": [(0xEE, b"Adobe")],
        "an empty segment": [(0xE5, b"")],
    }
    cmyk = encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG")
    four = by_opencv(cmyk).astype(float)
    for name, segments in useless.items():
        extra = b"".join(jpeg_segment(*segment) for segment in segments)
        yield Odd(f"JPEG with {name}", data[:2] + extra + data[2:], seen)
        if name not in ("an Adobe segment cut short",):
            yield Odd(f"JPEG in CMYK with {name}", cmyk[:2] + extra + cmyk[2:], four, within=1)


def jpegs_of_four(rgb: np.ndarray) -> Iterator[Odd]:
    cmyk = encoded(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=95, subsampling=0)
    yield Odd("JPEG in CMYK", cmyk, by_opencv(cmyk).astype(float), within=1)
    at = cmyk.index(b"Adobe")
    ycck = cmyk[: at + 11] + b"\2" + cmyk[at + 12 :]
    yield Odd("JPEG in YCCK", ycck, by_opencv(ycck).astype(float), within=1)
    deep = numbers(12)[..., 0]
    yield Odd("12-bit JPEG", bytes(imagecodecs.jpeg8_encode(deep, bitspersample=12)), refused="a 12-bit JPEG")
    for bits in (2, 5, 7, 8, 9, 12, 15, 16):
        lossless = bytes(imagecodecs.jpeg8_encode(numbers(bits)[..., 0], lossless=True, bitspersample=bits))
        if bits == 8:
            yield Odd("lossless JPEG", lossless, in_levels(numbers(8) / 255))
        else:
            yield Odd(f"lossless {bits}-bit JPEG", lossless, refused=f"a {bits}-bit JPEG")
    sound = encoded(rgb[..., 0], "JPEG")
    frame = sound.index(b"\xff\xc0")
    two = (
        sound[:frame]
        + b"\xff\xc0"
        + struct.pack(">HBHHB", 14, 8, HEIGHT, WIDTH, 2)
        + b"\1\x11\0\2\x11\0"
        + sound[frame + 13 :]
    )
    yield Odd("JPEG with 2 components", two, refused="a JPEG with 2 components")
    yield Odd("JPEG-LS", bytes(imagecodecs.jpegls_encode(rgb)), refused="a JPEG-LS file")
    yield Odd("JPEG cut short", sound[: len(sound) // 2], refused="can't be decoded")


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
