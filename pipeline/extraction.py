"""The overlap of decoding, trunk and writing."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from tqdm import tqdm

from cache import CacheWriter
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit
from pipeline.decode import decode_blocks
from pipeline.trunks.prepare import PreparedTrunk
from pipeline.views import Views

T = TypeVar("T")


def fill(
    writer: CacheWriter, split: ImageSplit, views: Views, prepared: PreparedTrunk, config: ExtractConfig
) -> str:
    """Compute and write every block that the cache still misses; says how fast, and what bounded it.

    Raises: DataError, CacheError. Blocks that are written by then stay.
    """
    waits = Waits()
    missing = writer.missing
    count = sum(map(len, missing))
    started = time.perf_counter()
    blocks = iter(decode_blocks(split, missing, prepared.transform, workers=config.workers))
    progress = tqdm(total=count, desc=split.split, unit="image", leave=False)
    pending: Future[None] | None = None
    with progress, ThreadPoolExecutor(1) as thread:
        while (block := waits.measure("decode", lambda: next(blocks, None))) is not None:
            rows, images, digests = block
            maps = waits.measure("trunk", lambda: block_maps(prepared, views, images, rows, config.batch))  # noqa: B023
            if pending is not None:
                waits.measure("disk", pending.result)
            pending = thread.submit(writer.write, rows, maps, digests)
            progress.update(len(rows))
        if pending is not None:
            waits.measure("disk", pending.result)
    seconds = time.perf_counter() - started
    rate = f"{count:,} images in {seconds:.1f} s ({count / seconds:,.0f} images/s)"
    return f"{rate}, bounded by {waits.longest}"


def block_maps(
    prepared: PreparedTrunk, views: Views, images: np.ndarray, rows: range, batch: int
) -> np.ndarray:
    """uint8 images (B, 3, S, S) of these rows → maps (B, V, C, H, W) in the trunk's precision or float32."""
    batch = batch or prepared.best_batch
    views_BV = views.of(torch.from_numpy(images).to(prepared.device), rows)
    maps = torch.cat([prepared(part) for part in views_BV.split(batch)])
    if maps.dtype == torch.bfloat16:
        maps = maps.float()  # numpy has no bfloat16
    maps = maps.contiguous().cpu()
    return maps.unflatten(0, (len(rows), views.per_image)).numpy()


class Waits:
    """Seconds that the main thread spent in each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def measure(self, part: str, call: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started

    @property
    def longest(self) -> str:
        """The part that took longest, with its share of the time."""
        part = max(self.seconds, key=lambda name: self.seconds[name], default="nothing")
        share = self.seconds.get(part, 0.0) / max(sum(self.seconds.values()), 1e-9)
        return f"the {part} ({share:.0%} of the time)"
