"""The cached views of an image: the image alone, with its mirror image, or with K augmented versions.

Legend: N images of a split, B of a block, V views, S = image_px. View 0 is always the image as it is.
"""

import threading

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.config.extract import view_count
from pipeline.images import augment


class Views:
    """Makes views of uint8 images, the same ones in every run and for blocks of any size."""

    def __init__(self, spec: str, count: int, seed: int) -> None:
        """For a split of `count` images. `spec` is `plain`, `mirror` or `augment:K`."""
        self.spec = spec
        self.per_image = view_count(spec)
        self._count, self._seed, self._lock = count, seed, threading.Lock()
        self._drawn: NDArray[np.int8] | None = None

    def of(self, images: Tensor, rows: range) -> Tensor:
        """Images (B, 3, S, S) of these rows → views (B·V, 3, S, S), those of an image side by side."""
        if self.per_image == 1:
            return images
        if self.spec == "mirror":
            views = [images, images.flip(3)]
        else:
            drawn = self._draws()[:, rows.start : rows.stop].astype(np.int64)
            views = [images, *(augment.apply(images, draws) for draws in drawn)]
        return torch.stack(views, dim=1).flatten(0, 1)

    def _draws(self) -> NDArray[np.int8]:
        """(V − 1, N, 3), drawn for all rows at once when the first of them are asked for."""
        with self._lock:
            if self._drawn is None:
                rng = np.random.default_rng(self._seed)
                augment.draw(
                    self._count, "plain", rng
                )  # of view 0: those behind it have their numbers from here
                self._drawn = np.empty((self.per_image - 1, self._count, 3), np.int8)
                for draws in self._drawn:
                    draws[:] = augment.draw(self._count, "crop-flip", rng)
            return self._drawn
