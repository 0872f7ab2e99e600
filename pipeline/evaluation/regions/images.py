"""The images that a cache was made from, found again in their dataset by path."""

import numpy as np
from numpy.typing import NDArray

from cache import FeatureCache
from pipeline.datasets.base import Boxes, ImageSplit, open_dataset
from pipeline.errors import DataError, StaleCacheError


class Images:
    """The images of a test split, whichever split of the dataset they are in now; those of other caches of
    the same dataset as well, where it has no two images of one path."""

    def __init__(self, test: FeatureCache, *others: FeatureCache) -> None:
        """Raises: DataError when the dataset isn't there any more, or the cache doesn't say which it was."""
        if not {"dataset", "test_fraction"} <= test.notes.keys():
            raise DataError(
                f"{test.path}: doesn't say which dataset it was made from, so no image can be shown"
            )
        self.dataset = str(test.notes["dataset"])
        splits = open_dataset(
            self.dataset,
            test_fraction=test.notes["test_fraction"],
            seed=test.notes.get("split_seed", 0),
            label_separator=test.notes.get("label_separator"),
            label_column=test.notes.get("label_column"),
        ).values()
        self._places = {path: (split, row) for split in splits for row, path in enumerate(split.paths)}
        caches = (*others, test)
        self._digests = {
            path: digest
            for cache in caches
            for path, digest in zip(cache.paths, cache.image_digests, strict=True)
        }
        self._sizes: dict[str, tuple[int, int]] = {}

    def read(self, path: str) -> NDArray[np.uint8]:
        """(H, W, 3) pixels.

        Raises: StaleCacheError when the dataset has another image there by now, or none; DataError when it is
        damaged.
        """
        split, row = self._place(path)
        if path not in self._digests:
            raise StaleCacheError(f"{path}: not an image that the cache was made from; extract it again")
        image, known = split.images.read(row), self._digests[path].tobytes()
        if any(known) and image.digest != known:
            raise StaleCacheError(
                f"{path}: another image of {self.dataset} than the cache was made from; extract it again"
            )
        self._sizes[path] = image.pixels.shape[0], image.pixels.shape[1]
        return image.pixels

    def size(self, path: str) -> tuple[int, int]:
        """(height, width). Raises: as `read`, which it takes once for each image."""
        if path not in self._sizes:
            self.read(path)
        return self._sizes[path]

    def boxes(self, path: str, classes: tuple[str, ...]) -> Boxes | None:
        """The boxes of an image's objects of these classes, (n, 5) with positions in `classes`, if they are
        known. Raises: StaleCacheError when there is no such image.
        """
        split, row = self._place(path)
        if split.boxes is None:
            return None
        place = np.array([classes.index(name) if name in classes else -1 for name in split.classes])
        boxes = split.boxes[row].copy()
        boxes[:, 0] = place[boxes[:, 0].astype(np.int64)]
        return boxes[boxes[:, 0] >= 0]

    def _place(self, path: str) -> tuple[ImageSplit, int]:
        if path not in self._places:
            raise StaleCacheError(f"{path}: no such image in {self.dataset} any more; extract it again")
        return self._places[path]
