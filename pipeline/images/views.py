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

    def __init__(self, spec: str, count: int, seed: int, share: range | None = None) -> None:
        """Args:
        spec: `plain`, `mirror` or `augment:K`.
        count: the images of the whole split, for which views are drawn.
        share: which of them are here, row 0 being its first; None for all.
        """
        self.spec = spec
        self.per_image = view_count(spec)
        self._count, self._seed, self._lock = count, seed, threading.Lock()
        self._share = share or range(count)
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
        """(V − 1, n, 3) of the n rows that are here, drawn with all others when the first are asked for."""
        with self._lock:
            if self._drawn is None:
                rng = np.random.default_rng(self._seed)
                augment.draw(
                    self._count, "plain", rng
                )  # of view 0: those behind it have their numbers from here
                self._drawn = np.empty((self.per_image - 1, len(self._share), 3), np.int8)
                for draws in self._drawn:
                    draws[:] = augment.draw(self._count, "crop-flip", rng)[
                        self._share.start : self._share.stop
                    ]
            return self._drawn
