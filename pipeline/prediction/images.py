"""Images from Python, as a split that can be decoded: paths, pictures of Pillow, or an array."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor
from xxhash import xxh3_128_digest

from cache import Paths
from pipeline.datasets.base import ArrayReader, ImageBytes, ImageReader, ImageSplit, Rows
from pipeline.datasets.files import FileReader, file_size
from pipeline.datasets.unlabelled import photos
from pipeline.errors import DataError
from pipeline.images.orientation import orientation, upright
from pipeline.images.pillow import rgb
from pipeline.wording import short

Picture = Image.Image | np.ndarray | Tensor
Images = str | Path | Picture | Sequence[str | Path] | Sequence[Picture]
"""A path of a photo or a folder, or a pattern; an image of Pillow, an array (H, W, 3) or a tensor (3, H, W)
of uint8; a batch of these; or a list of paths or of images."""
EIGHT_BITS = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}


def split_of(images: Images) -> ImageSplit:
    """Images without labels as a split. Raises: DataError."""
    if isinstance(images, str | Path):
        return photos([str(images)])
    if isinstance(images, np.ndarray | Tensor):
        pixels = _pixels(images, 3 if images.ndim == 3 else 4)
        pixels = pixels if pixels.ndim == 4 else pixels[None]
        return _split(ArrayReader(pixels), [f"image {i}" for i in range(len(pixels))], pixels[:1].nbytes)
    several = [images] if isinstance(images, Image.Image) else list(images)
    several = [
        Image.fromarray(_pixels(image, 3)) if isinstance(image, np.ndarray | Tensor) else image
        for image in several
    ]
    pictures = [image for image in several if isinstance(image, Image.Image)]
    paths = [os.fspath(path) for path in several if isinstance(path, str | Path)]
    if len(pictures) == len(several):
        names = [f"image {i}" for i in range(len(several))]
        return _split(PictureReader(pictures), names, [3 * p.width * p.height for p in pictures])
    if len(paths) == len(several):
        return _split(FileReader("", Paths(paths)), paths, [file_size(path, "images") for path in paths])
    odd = next(image for image in several if not isinstance(image, str | Path))
    raise DataError(f"images: expected paths alone or images alone, found {short(odd)} as well")


def _pixels(image: np.ndarray | Tensor, dimensions: int) -> np.ndarray:
    """An image or a batch of them, channels last. Raises: DataError."""
    shape, dtype = tuple(image.shape), str(image.dtype).removeprefix("torch.")
    channels = -3 if isinstance(image, Tensor) else -1
    if dtype != "uint8" or len(shape) != dimensions or shape[channels] != 3:
        expected = ("B, 3, H, W" if channels == -3 else "B, H, W, 3").removeprefix("B, " * (dimensions == 3))
        raise DataError(f"images: expected ({expected}) uint8, found {shape} {dtype}")
    return image.detach().cpu().movedim(-3, -1).numpy() if isinstance(image, Tensor) else image


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
