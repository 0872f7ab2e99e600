"""Files of formats that are not read, and no images: named and refused."""

from collections.abc import Iterator

from PIL import Image

from support.encoding import encoded
from support.odd_jpeg import smooth
from support.odd_picture import Odd


def others() -> Iterator[Odd]:
    image = Image.fromarray(smooth())
    for kind, words in (
        ("JPEG2000", "a JPEG 2000 file"),
        ("AVIF", "an AVIF file"),
        ("ICO", "an icon"),
        ("DDS", "a DDS file"),
    ):
        yield Odd(kind, encoded(image, kind), refused=words)
    yield Odd("bare JPEG 2000", encoded(image, "JPEG2000", no_jp2=True), refused="a JPEG 2000 file")
    starts: dict[str, bytes] = {
        "a HEIC file": b"\0\0\0\x18ftypheic",
        "a video": b"\0\0\0\x18ftypisom",
        "a Photoshop file": b"8BPS\0\1",
        "a PDF file": b"%PDF-1.7",
        "a PostScript file": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "an SVG drawing": b"\n<svg/>",
        "a web page": b"<!DOCTYPE html>",
        "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\n",
        "a DICOM file": bytes(128) + b"DICM",
        "a JPEG XL file": b"\xff\x0a\0\0",
        "an OpenEXR file": b"v/1\1",
        "a FITS file": b"SIMPLE  =                    T",
        "a NumPy array": b"\x93NUMPY\1\0",
        "a ZIP archive": b"PK\3\4",
        "something else": b"not an image",
    }
    for words, start in starts.items():
        yield Odd(words, start + bytes(200), refused=f"found {words}")
