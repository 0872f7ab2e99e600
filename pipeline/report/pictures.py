"""Images in the page: small JPEGs, bounded in number and bytes. Of one that is gone the reason is shown."""

import base64
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cache import CacheError, FeatureCache, split_path
from pipeline.errors import DataError, UserError
from pipeline.evaluation.regions.images import Images
from pipeline.report.markup import Markup, element, name
from pipeline.runs.find_cache import find_cache

LARGE, SMALL = 256, 112
"""Pixels of the longer side: of a test image, and of a neighbour."""
PIXELATED = 64
"""Images of fewer pixels a side are enlarged without blur."""
BUDGET = 3_000_000
"""Bytes of images in a page."""
DOWNLOADED = ("cifar10", "voc2007")
"""Datasets without a path that are fetched where they are missing, into artifacts/datasets."""


class Pictures:
    """The images of a run's test split, and of its training split where that is still there."""

    def __init__(self, folder: Path) -> None:
        """Raises: UserError or OSError when cache or dataset are gone, or would have to be fetched."""
        found = find_cache(folder)
        if found.folder is None:
            raise CacheError(f"{folder}: its cache isn't found, so no image is; looked at {found.looked[0]}")
        self.training = found.training
        self.test = FeatureCache(split_path(found.folder, "test"))
        refuse_fetching(str(self.test.notes.get("dataset")))
        caches = [self.test, *([self.training] if self.training else [])]
        if not all(cache.image_digests.any(1).all() for cache in caches):
            raise DataError(f"{found.folder}: doesn't say what was in the images, so others might be shown")
        self._images = Images(*caches)
        self._left = BUDGET
        self._rows = {path: row for row, path in enumerate(self.test.paths)}

    def row(self, path: str, contents: bytes) -> int:
        """Where a test image is in the cache. Raises: DataError when that has another image of this path."""
        row = self._rows.get(path, -1)
        if row < 0 or self.test.image_digests[row].tobytes() != contents:
            raise DataError(f"{path}: not the image in {self.test.path}; evaluate.py scores that one")
        return row

    def picture(self, path: str, alt: str, side: int = LARGE) -> Markup:
        """An image, or a line about why it isn't there."""
        try:
            pixels = self.pixels(path)
        except (UserError, OSError) as error:
            return missing(str(error))
        uri = self.uri(pixels, side)
        if uri is None:
            return missing("left out: the page has enough images")
        style = "picture small" if max(pixels.shape[:2]) < PIXELATED else "picture"
        return element("img", src=uri, alt=alt, class_=style)

    def pixels(self, path: str) -> NDArray[np.uint8]:
        """(H, W, 3). Raises: UserError or OSError when the image isn't the one that it was."""
        return self._images.read(path)

    def uri(self, pixels: NDArray[np.uint8], side: int) -> str | None:
        """A data URI of a JPEG, no larger than `side`; None where the page has no room for it."""
        image, out = Image.fromarray(pixels), io.BytesIO()
        image.thumbnail((side, side), Image.Resampling.LANCZOS)
        exact = {"quality": 95, "subsampling": 0}
        image.save(out, "JPEG", **({"quality": 82} if max(image.size) >= PIXELATED else exact))
        uri = f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
        if len(uri) > self._left:
            return None
        self._left -= len(uri)
        return uri


def missing(reason: str) -> Markup:
    """What stands in place of an image."""
    return element("div", name(reason, 160), class_="picture missing")


def refuse_fetching(dataset: str) -> None:
    """Raises: DataError where a dataset isn't on this disk: a report needs no network."""
    kind, _, path = dataset.partition(":")
    fetched = not Path("artifacts/datasets").is_dir() if kind in DOWNLOADED and not path else False
    if "://" in dataset or fetched or (kind == "hf" and not Path(path).exists()):
        raise DataError(f"{dataset}: isn't on this disk, and a report fetches nothing")
