"""A cache as a head reads it: maps by row and view, normalised, and made into the head's inputs.

A cache is a flat list of examples: one per image, or, when it holds augmented views, one per image and view,
of which an epoch draws one for each image. Heads that are computed at once take all of them.

Shapes: B examples of a batch, V views that the head sees at once, C×H×W cells of a map.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cache import FeatureCache
from cache.dtypes import Raw
from pipeline.errors import CacheError, ConfigError
from pipeline.maps.normaliser import Normaliser, normalised
from pipeline.maps.stored import decoded, to_raw, to_tensor

Rows = NDArray[np.int64]
SAMPLE = 8192  # images that the normaliser learns from
CHUNK = 256  # examples prepared or validated at once
CHUNK_BYTES = {"cpu": 32 << 20, "cuda": 256 << 20}  # what their maps in float32, or their inputs, may take
BLOCK_BYTES = 512 << 10  # of maps or inputs that a core works on at a time: half of its L2 cache
UPLOAD_BYTES = 24 << 20  # stored bytes sent to a GPU at once: small chunks aren't worth a launch


def drawn_views(cache: FeatureCache) -> int:
    """How many of an image's cached views are examples of their own."""
    return cache.shape[1] if str(cache.identity.get("views")).startswith("augment") else 1


def check_views(cache: FeatureCache, views: int) -> None:
    """Raises: ConfigError when the head looks at a mirrored image's map and the cache has none."""
    made = cache.identity.get("views")
    if views > 1 and made != "mirror":
        raise ConfigError(
            f"--crops: ten-image needs a cache made with --views mirror, {cache.path} was made with {made}"
        )


def damaged(path: Path) -> CacheError:
    """What to say of numbers that no writer lets into a cache, and --no-verify doesn't look for."""
    return CacheError(f"{path}: damaged: not all of its numbers are finite; delete it and extract again")


@dataclass(frozen=True, eq=False)
class Source:
    """A cache, and how its maps become a head's inputs."""

    cache: FeatureCache
    views: int
    """How many views of an image the head sees at once."""
    prepare: Callable[[Tensor], Tensor]
    """Normalised maps (B, V, C, H, W) → inputs (B, ...)."""
    normaliser: Normaliser
    dtype: torch.dtype
    """Precision of the inputs."""
    device: torch.device
    verify: bool
    """Whether to check the digests of blocks that are read for the first time."""

    def take(self, rows: Rows, drawn: Rows | int = 0) -> Tensor:
        """Maps (n, V, C, H, W) of these rows as they are stored; `drawn`: the drawn view of each row."""
        maps = self._get(self.cache.take, rows, drawn)
        self.cache.release()  # mapped pages count as memory in use
        return maps

    def read(self, rows: Rows, drawn: Rows | int = 0, out: Tensor | None = None) -> Tensor:
        """As `take`, into `out` if it is given, for rows that are likely on a disk."""
        return self._get(self.cache.read, rows, drawn, out)

    def _get(
        self, how: Callable[..., Raw], rows: Rows, drawn: Rows | int, out: Tensor | None = None
    ) -> Tensor:
        if self.verify:
            self.cache.verify(rows)
        raw = None if out is None else to_raw(out)
        if self.views > 1:
            return to_tensor(how(rows, slice(self.views), raw), self.cache.dtype)
        return to_tensor(how(rows, drawn, None if raw is None else raw[:, 0])[:, None], self.cache.dtype)

    def inputs(self, maps_BVCHW: Tensor, out: Tensor | None = None) -> Tensor:
        """Maps as they are stored → the head's inputs (B, ...) on the device, in `out` if it is given.

        A CPU makes some after the others: all that lies between stays in its cache, and in memory that is
        there, where new pages for all maps of a batch cost more than the arithmetic.
        """
        mean, scale = self.normaliser.stored(self._scales)
        some = len(maps_BVCHW)
        if self.device.type == "cpu":
            one = max(4 * int(np.prod(self.stored_shape(1))), self.input_bytes(1))
            some = max(1, BLOCK_BYTES * torch.get_num_threads() // one)
            mean, scale = (each.expand(maps_BVCHW.shape[2:]).contiguous() for each in (mean, scale))
        out = self.new_inputs(len(maps_BVCHW)) if out is None else out
        for maps, into in zip(maps_BVCHW.split(some), out.split(some), strict=True):
            into.copy_(self.prepare(normalised(maps.to(self.device), mean, scale)))
        return out

    @cached_property
    def _scales(self) -> Tensor | None:
        """(2, C, 1, 1), those of the cache on the device, where they are brought once."""
        scales = self.cache.scales
        return None if scales is None else torch.tensor(scales[:, :, None, None], device=self.device)

    def fit_normaliser(self, rows: Rows) -> None:
        """Fit it to a sample spread evenly over these rows, without augmentation (view 0).

        Raises: CacheError on numbers that are not finite, which no writer lets into a cache.
        """
        picked = rows[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), SAMPLE)).astype(np.int64))]
        chunks = np.array_split(picked, -(-len(picked) // max(1, self.chunk // 4)))  # float64 takes memory
        self.normaliser.fit(decoded(self.read(chunk)[:, 0], self.cache.scales) for chunk in chunks)
        if not self.normaliser.is_finite():
            raise damaged(self.cache.path)

    def stored_shape(self, examples: int) -> tuple[int, ...]:
        """The shape (examples, V, C, H, W) of stored maps."""
        return examples, self.views, *self.cache.shape[2:]

    def stored_bytes(self, examples: int) -> int:
        """Memory that `examples` take as they are stored."""
        return int(np.prod(self.stored_shape(examples))) * getattr(torch, self.cache.dtype).itemsize

    def new_stored(self, examples: int, pinned: bool = False) -> Tensor:
        """Memory for stored maps; a GPU can copy directly from pinned memory."""
        dtype = getattr(torch, self.cache.dtype)
        return torch.empty(self.stored_shape(examples), dtype=dtype, pin_memory=pinned)

    def new_inputs(self, examples: int) -> Tensor:
        """Memory for the inputs of `examples`."""
        # Of a real map: the first use of torch's device "meta" costs a second of imports.
        one = self.prepare(torch.zeros(self.stored_shape(1), device=self.device))
        return one.new_empty((examples, *one.shape[1:]), dtype=self.dtype)

    def input_bytes(self, examples: int) -> int:
        """Memory that the inputs of `examples` take."""
        return examples * self.new_inputs(1).nbytes

    @property
    def chunk(self) -> int:
        """Examples prepared or validated at once: not many of large ones."""
        on_gpu = self.device.type == "cuda"
        count = max(CHUNK, UPLOAD_BYTES // self.stored_bytes(1)) if on_gpu else CHUNK
        one = max(4 * int(np.prod(self.stored_shape(1))), self.input_bytes(1))
        return max(1, min(count, CHUNK_BYTES["cuda" if on_gpu else "cpu"] // one))

    def working_bytes(self, batch: int) -> int:
        """Memory for making batches: maps and inputs of this one, of the last, and what malloc keeps."""
        examples = 3 * max(batch, self.chunk)
        return self.input_bytes(examples) + 4 * int(np.prod(self.stored_shape(examples)))

    def streaming_bytes(self, batch: int) -> int:
        """The least memory in which batches can be read from disk: this one's and the next one's maps."""
        return 2 * self.stored_bytes(max(batch, self.chunk))
