"""The cached views of an image: the image alone, with its mirror image, or with K augmented versions.

Legend: B images of a block, V views, S = image_px. View 0 is always the image as it is.
"""

import numpy as np
import torch
from torch import Tensor

from pipeline.config.extract import view_count
from pipeline.images import augment


class Views:
    """Makes views of uint8 images, the same ones in every run and for blocks of any size."""

    def __init__(self, spec: str, count: int, seed: int) -> None:
        """For a split of `count` images. `spec` is `plain`, `mirror` or `augment:K`. Raises: ConfigError."""
        self.spec = spec
        self.per_image = view_count(spec)
        draws = np.zeros((self.per_image, count, 3), np.int64)
        rng = np.random.default_rng(seed)
        draws[0] = augment.draw(count, "plain", rng)
        for view in range(1, self.per_image):
            draws[view] = augment.draw(count, "crop-flip" if spec.startswith("augment") else "plain", rng)
        if spec == "mirror":
            draws[1, :, 2] = 1
        self._draws = draws

    def of(self, images: Tensor, rows: range) -> Tensor:
        """Images (B, 3, S, S) of these rows → views (B·V, 3, S, S), those of an image side by side."""
        if self.per_image == 1:
            return images
        views = [augment.apply(images, draws[rows.start : rows.stop]) for draws in self._draws]
        return torch.stack(views, dim=1).flatten(0, 1)
