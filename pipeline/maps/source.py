"""What a head reads of a cache: raw maps by row and view, and how they become the head's inputs.

A cache is a flat list of examples: one per image, or, when it holds augmented views, one per image and view,
of which an epoch draws one for each image. Heads that are computed at once take all of them.

Shapes: B examples of a batch, V views that the head sees at once, C×H×W cells of a map.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import DTYPES, FeatureCache
from pipeline.errors import ConfigError
from pipeline.heads.base import Head
from pipeline.maps.normaliser import Normaliser

Rows = NDArray[np.int64]
Raw = NDArray[np.generic]
SAMPLE = 8192  # images that the normaliser learns from
CHUNK = 256  # examples prepared at once
UPLOAD_BYTES = (
    24 << 20
)  # of them, as they are stored, at once to a GPU, where small chunks aren't worth a launch


class Source(NamedTuple):
    """A cache and what a head reads of it."""

    cache: FeatureCache
    head: Head
    normaliser: Normaliser
    dtype: torch.dtype
    device: torch.device
    verify: bool

    @property
    def drawn(self) -> int:
        """How many examples an epoch has to draw from for each image."""
        return drawn_views(self.cache)

    def take(self, rows: Rows, views: Rows | int = 0, out: Raw | None = None) -> Raw:
        """(n, V, C, H, W) maps of these rows in the storage dtype; which of the drawn views for each."""
        _, stored, *map_shape = self.cache.shape
        if self.verify:
            self.cache.verify(rows)
        examples = self.cache.features.reshape(-1, self.head.views, *map_shape)
        taken = np.take(examples, rows * (stored // self.head.views) + views, axis=0, out=out, mode="clip")
        del examples, self.cache.features  # let go of the mapped pages, which count as memory in use
        return taken

    def to_tensor(self, raw: Raw) -> Tensor:
        """The same memory; bfloat16 comes as its bits."""
        maps = torch.from_numpy(raw)
        return maps.view(torch.bfloat16) if self.cache.dtype == "bfloat16" else maps

    def prepare(self, raw: Raw) -> Tensor:
        """(B, V, C, H, W) in the storage dtype → the head's inputs (B, ...) on the device."""
        return self.head.prepare(self.normaliser(self.to_tensor(raw).to(self.device))).to(self.dtype)

    def fit_normaliser(self, rows: Rows) -> None:
        """From a sample spread evenly over these rows, as the images are (view 0)."""
        picked = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64))]
        chunks = np.array_split(picked, -(-len(picked) // 64))  # float64 takes memory
        self.normaliser.fit(self.to_tensor(self.take(chunk)[:, 0]) for chunk in chunks)

    def prepared_bytes(self, examples: int) -> int:
        """Memory that `examples` take when prepared."""
        # A real map: the first use of torch's device "meta" costs a second of imports.
        one = self.head.prepare(torch.zeros(1, self.head.views, *self.cache.shape[2:], device=self.device))
        return examples * one.numel() * self.dtype.itemsize

    def raw_bytes(self, examples: int) -> int:
        """Memory that `examples` take as they are stored."""
        return examples * self.head.views * math.prod(self.cache.shape[2:]) * self.raw_dtype.itemsize

    @property
    def chunk(self) -> int:
        """Examples prepared at once."""
        on_gpu = self.device.type == "cuda"
        return max(CHUNK, UPLOAD_BYTES // self.raw_bytes(1)) if on_gpu else CHUNK

    def working_bytes(self, batch: int) -> int:
        """Memory for making batches: maps and inputs of this one, of the last, and what malloc keeps."""
        examples = 3 * max(batch, self.chunk)
        return self.prepared_bytes(examples) + 4 * self.raw_bytes(examples) // self.raw_dtype.itemsize

    @property
    def raw_dtype(self) -> np.dtype:
        return DTYPES[self.cache.dtype].raw


def drawn_views(cache: FeatureCache) -> int:
    """How many of the views that are cached of an image are examples of their own."""
    return cache.shape[1] if str(cache.identity.get("views")).startswith("augment") else 1


def check_views(cache: FeatureCache, head: Head) -> None:
    """Raises: ConfigError when the head looks at a mirrored image's map and the cache has none."""
    views = cache.identity.get("views")
    if head.views > 1 and views != "mirror":
        raise ConfigError(
            f"--crops: ten-image needs a cache made with --views mirror, {cache.path} was made with {views}"
        )
