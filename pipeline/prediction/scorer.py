"""Trunk and head as one module, and its logits for many images while others are being decoded.

    decode_sound (ahead) → Streams: a batch each, pixels → maps → logits → Piece

Maps are rounded to the numbers that the run's cache holds, so that logits are those of evaluate.py.
Legend: n images, V views, K classes, S = image_px.
"""

from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cache import FeatureCache
from pipeline.datasets.base import ImageSplit
from pipeline.evaluation.logits import maps_for
from pipeline.extraction.overlap import UNDER_WAY, Streams
from pipeline.extraction.pieces import cut
from pipeline.images.blocks import decode_sound
from pipeline.images.pool import Decoders
from pipeline.images.views import Views
from pipeline.maps.stored import rounded
from pipeline.progress import Progress
from pipeline.runs.folder import LoadedHead
from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk

PIECE_BYTES, PIECE_IMAGES = 16 << 20, 1024
"""Pixels of a piece, unless that is less than a batch for each stream: the first answers come soon."""


class Piece(NamedTuple):
    """Images that were scored together."""

    rows: range
    logits: NDArray[np.float32]  # (n, K), NaN for bad images
    bad: dict[int, str]  # row → reason, which names no path


class Scorer(nn.Module):
    """uint8 images (B, 3, S, S) in RGB → logits (B, K), on `device`."""

    def __init__(
        self,
        loaded: LoadedHead,
        trunk: Trunk,
        identity: dict[str, Any],
        device: torch.device,
        scales: Tensor | None = None,
    ) -> None:
        """`identity` is that of the run's cache: it says how maps were computed and stored; int8 by `scales`
        (2, C, 1, 1)."""
        super().__init__()
        precision = identity["precision"]
        if device.type == "cpu" and precision == "float16":  # as a GPU computes; here it takes ages
            precision = "float32"
        self.loaded, self.device = loaded, device
        self.prepared = PreparedTrunk(trunk, device, precision)
        self.stored = getattr(torch, identity["dtype"])
        self.scales = None if scales is None else scales.to(device)
        self.views = Views("mirror" if loaded.head.views > 1 else "plain", 0, 0)
        self.best_batch = loaded.head.share_of(self.prepared.best_batch)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        views = self.views.of(images.to(self.device, non_blocking=True), range(len(images)))
        maps = self.prepared(views).unflatten(0, (len(images), self.views.per_image))
        maps = maps.to(self.stored) if self.scales is None else rounded(maps.float(), self.scales)
        return self.loaded.logits(maps.float()).float()


def score_photos(
    scorer: Scorer, split: ImageSplit, decoders: Decoders, *, start: int = 0, batch: int | None = None
) -> Generator[Piece]:
    """Yield the logits of a split's images from row `start` on, in order.

    `batch` is the number of images in a forward pass; None takes as many as suit the device.
    """
    step, transform = batch or scorer.best_batch, scorer.prepared.transform
    streams = Streams(scorer, Views("plain", len(split), 0), lambda rows, logits: logits)
    size = min(PIECE_BYTES // (3 * transform.image_px**2), PIECE_IMAGES)
    pieces = cut([range(start, len(split))], max(size // step, streams.count) * step)
    decoded = decode_sound(split, pieces, transform, decoders)
    classes, under_way = (
        len(scorer.loaded.classes),
        deque[tuple[range, Tensor, list[Future[int]], dict[int, str]]](),
    )
    progress = Progress("predicting", len(split), "images", done=start)

    def finish() -> Piece:
        rows, logits, batches, bad = under_way.popleft()
        for computed in batches:
            computed.result()
        progress.advance(len(rows))
        return _piece(rows, logits[:, 0].numpy(), bad)

    with progress, closing(decoded), closing(streams):
        for rows, images, bad in decoded:
            logits = torch.empty(len(images), 1, classes)
            parts = [slice(at, at + step) for at in range(0, len(images), step)]
            batches = [streams.submit(images[p], range(len(images))[p], logits[p]) for p in parts]
            under_way.append((rows, logits, batches, bad))
            if len(under_way) > UNDER_WAY:
                yield finish()
        while under_way:
            yield finish()


def score_rows(loaded: LoadedHead, cache: FeatureCache, *, start: int, batch: int) -> Generator[Piece]:
    """Yield the logits of a cache's images from row `start` on, in order. Raises: CacheError, RunError."""
    step = loaded.head.share_of(batch)
    with Progress("predicting", len(cache), "images", done=start) as progress:
        for rows in cut([range(start, len(cache))], step):
            logits = loaded.logits(maps_for(loaded, cache, np.array(rows))).float().cpu().numpy()
            yield _piece(rows, logits, {})
            progress.advance(len(rows))


def _piece(rows: range, sound: NDArray[np.float32], bad: dict[int, str]) -> Piece:
    """With the logits (n', K) of the sound images in their places. What isn't finite is bad: numbers of its
    map are too large for the cache's type."""
    logits = np.full((len(rows), sound.shape[1]), np.nan, np.float32)
    logits[[row not in bad for row in rows]] = sound
    is_lost = np.isnan(logits).any(1) | np.isinf(logits).any(1)
    logits[is_lost] = np.nan
    lost = {rows[i]: "its scores are not finite" for i in np.flatnonzero(is_lost).tolist()}
    return Piece(rows, logits, {**lost, **bad})
