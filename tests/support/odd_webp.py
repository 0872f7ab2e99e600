"""WebP files: alpha, animations, orientations and broken metadata."""

import struct
from collections.abc import Iterator

import imagecodecs
import numpy as np

from support.encoding import encoded
from support.odd_picture import HEIGHT, ORIENTATIONS, WIDTH, Odd, in_levels, numbers, on_white, upright
from support.odd_png import exif
from support.opencv import by_opencv


def webps() -> Iterator[Odd]:
    rgb = numbers(8, 3, seed=12)
    alpha = numbers(8, seed=13)
    rgba = np.dstack([rgb, alpha])
    levels = in_levels(rgb / 255)
    plain = encoded(rgb, "WEBP", lossless=True)
    yield Odd("WebP", plain, levels, viewers=(by_opencv,))
    yield Odd(
        "WebP with alpha",
        encoded(rgba, "WEBP", lossless=True, exact=True),
        in_levels(on_white(rgb / 255, alpha / 255)),
    )
    lossy = encoded(rgb, "WEBP")
    yield Odd(
        "lossy WebP", lossy, imagecodecs.webp_decode(lossy).astype(float), within=0, viewers=(by_opencv,)
    )
    for orientation in ORIENTATIONS:
        for prefix in (b"", b"Exif\0\0"):
            data = extended(plain, EXIF=prefix + exif(orientation))
            yield Odd(f"WebP turned {orientation}, {prefix}", data, upright(levels, orientation))
    useless: dict[str, dict[str, bytes]] = {
        "a broken profile": {"ICCP": b"junk"},
        "broken EXIF": {"EXIF": b"MM\0*\xff\xff\xff\xff"},
        "no EXIF": {"EXIF": b""},
        "XMP of no encoding": {"XMP_": b"\xff\xfe\0"},
        "a huge profile": {"ICCP": bytes(3 << 20)},
    }
    for name, chunks in useless.items():
        yield Odd(f"WebP with {name}", extended(plain, **chunks), levels)
    yield Odd("WebP with junk at the end", plain + b"junk" * 99, levels)
    for flag in (0, 0x10):
        data = animated(plain, flag)
        shown = np.full((HEIGHT + 10, WIDTH + 10, 3), 255.0)
        shown[4 : 4 + HEIGHT, 6 : 6 + WIDTH] = levels
        yield Odd(f"animated WebP, its first frame smaller than the canvas, flag {flag}", data, shown)
    yield Odd("WebP cut short", plain[: len(plain) // 2], refused="can't be decoded")


def riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)


def webp_of(*chunks: bytes) -> bytes:
    return riff(b"RIFF", b"WEBP" + b"".join(chunks))


def size_less_1(height: int, width: int) -> bytes:
    return (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


def extended(plain: bytes, **chunks: bytes) -> bytes:
    """A file with metadata around its pixels."""
    flags = sum({"ICCP": 0x20, "EXIF": 8, "XMP_": 4}[name] for name in chunks)
    head = riff(b"VP8X", bytes([flags, 0, 0, 0]) + size_less_1(HEIGHT, WIDTH))
    more = {name: riff(name.replace("_", " ").encode(), data) for name, data in chunks.items()}
    return webp_of(head, more.pop("ICCP", b""), plain[12:], *more.values())


def animated(plain: bytes, flag: int) -> bytes:
    head = riff(b"VP8X", bytes([2 | flag, 0, 0, 0]) + size_less_1(HEIGHT + 10, WIDTH + 10))
    place = (3).to_bytes(3, "little") + (2).to_bytes(3, "little")  # half of 6 and 4
    frame = riff(b"ANMF", place + size_less_1(HEIGHT, WIDTH) + bytes(4) + plain[12:])
    return webp_of(head, riff(b"ANIM", bytes(6)), frame, frame)
