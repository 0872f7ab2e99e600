"""Images from Python, as a split that can be decoded: paths, pictures of Pillow, or an array."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from xxhash import xxh3_128_digest

from cache import Paths
from pipeline.checks import short
from pipeline.datasets.base import ArrayReader, ImageBytes, ImageReader, ImageSplit, Rows
from pipeline.datasets.files import FileReader, file_size
from pipeline.datasets.unlabelled import photos
from pipeline.errors import DataError
from pipeline.images.orientation import orientation, upright
from pipeline.images.pillow import rgb

Images = str | Path | Image.Image | np.ndarray | Sequence[str | Path] | Sequence[Image.Image]
"""A path of a photo or a folder, or a pattern; an image; a (B, H, W, 3) uint8 array; or a list of paths or of
images."""
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


def split_of(images: Images) -> ImageSplit:
    """Images without labels as a split. Raises: DataError."""
    if isinstance(images, str | Path):
        return photos([str(images)])
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise DataError(f"images: expected (B, H, W, 3) uint8, found {images.shape} {images.dtype}")
        return _split(ArrayReader(images), [f"image {i}" for i in range(len(images))], images[:1].nbytes)
    several = [images] if isinstance(images, Image.Image) else list(images)
    pictures = [image for image in several if isinstance(image, Image.Image)]
    paths = [os.fspath(path) for path in several if isinstance(path, str | Path)]
    if len(pictures) == len(several):
        names = [f"image {i}" for i in range(len(several))]
        return _split(PictureReader(pictures), names, [3 * p.width * p.height for p in pictures])
    if len(paths) == len(several):
        return _split(FileReader("", Paths(paths)), paths, [file_size(path, "images") for path in paths])
    odd = next(image for image in several if not isinstance(image, str | Path))
    raise DataError(f"images: expected paths alone or images of Pillow alone, found {short(odd)} as well")


def _split(reader: ImageReader, paths: list[str], sizes: int | list[int]) -> ImageSplit:
    return ImageSplit(
        dataset="photos",
        split="test",
        classes=(),
        paths=Paths(paths),
        sizes=np.zeros(len(paths), np.int64) + np.array(sizes, np.int64),
        labels=np.zeros((len(paths), 0), np.int8),
        images=reader,
    )


class PictureReader:
    """Reads images of Pillow, which are upright and opaque afterwards, as those of files are."""

    in_memory = True

    def __init__(self, pictures: Sequence[Image.Image]) -> None:
        self.pictures = pictures

    def read(self, row: int) -> ImageBytes:
        picture = self.pictures[row]
        if picture.mode not in EIGHT_BITS:
            raise DataError(
                f"image {row}: expected samples of 8 bits, found mode {picture.mode}; give "
                "picture.convert('RGB')"
            )
        exif, xmp = (picture.info.get(name) or b"" for name in ("exif", "xmp"))
        pixels = upright(rgb(picture), orientation(exif, xmp))
        return ImageBytes(pixels, xxh3_128_digest(np.ascontiguousarray(pixels).data))

    def digest(self, row: int) -> bytes:
        return self.read(row).digest

    def take(self, rows: Rows) -> "PictureReader":
        return PictureReader([self.pictures[row] for row in rows])

    def statuses(self) -> None:
        return None
