"""JPEG files of noise and of something like a photo, and what Pillow alone makes of a file."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.images.decode import ImageError, decode

RNG = np.random.default_rng(0)


def noise(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def photo(height: int, width: int) -> np.ndarray:
    """Smooth at several scales, with a little noise."""
    pixels = RNG.normal(128, 3, (height, width, 3))
    for cells, contrast in ((3, 60), (10, 30), (40, 10)):
        coarse = RNG.integers(0, 256, (cells, cells, 3), np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        pixels += (np.asarray(fine) / 255 - 0.5) * contrast
    return pixels.clip(0, 255).astype(np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "JPEG", **options: Any) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file := io.BytesIO(), kind, **options)
    return file.getvalue()


def with_segment(data: bytes, marker: int, content: bytes) -> bytes:
    """The file with a segment more, right after its start."""
    return data[:2] + bytes([0xFF, marker]) + (len(content) + 2).to_bytes(2, "big") + content + data[2:]


def by_pillow(data: bytes) -> np.ndarray | None:
    """The pixels as Pillow alone gives them; None where it refuses."""
    try:
        image = Image.open(io.BytesIO(data), formats=["JPEG", "PNG"])
        image.load()
    except Exception:  # noqa: BLE001  # of a damaged file Pillow raises whatever comes
        return None
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)
    return np.asarray(image.convert("RGB"))


def assert_as_pillow(data: bytes) -> bool:
    """Whether the file can be decoded."""
    expected = by_pillow(data)
    if expected is None:
        with pytest.raises(ImageError):
            decode(data, "x")
        return False
    found = decode(data, "x")
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, expected)
    return True


def exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[274], exif[271] = orientation, "maker"
    return exif
