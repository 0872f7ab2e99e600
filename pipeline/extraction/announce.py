"""Say what an extraction will do, and refuse it where the disk has no room for it."""

import math
import shutil

from cache import DTYPES, CacheHeader, CacheWriter, shard_paths
from pipeline.config import ExtractConfig
from pipeline.datasets.summary import lines
from pipeline.engines.executors import ENGINES
from pipeline.errors import CacheError
from pipeline.extraction.jobs import STATUS, Job
from pipeline.extraction.overlap import UNDER_WAY
from pipeline.extraction.pieces import PIECE_BYTES
from pipeline.images.cut import LARGEST
from pipeline.images.on_device import resizes
from pipeline.trunks.prepare import PreparedTrunk


def announce(config: ExtractConfig, prepared: PreparedTrunk, jobs: list[Job], workers: int = 1) -> None:
    """Print what will be done. Raises: CacheError when the disk has no room for it."""
    of_split = None
    made, copied, memory, free = 0, 0, 0, shutil.disk_usage(config.cache_dir).free
    for job in jobs:
        if job.split is not of_split:
            print(*lines(job.split), sep="\n")
            of_split = job.split
        size = math.prod(job.header.shape) * DTYPES[job.header.dtype].raw.itemsize
        room = room_for(job)
        adds = job.status in ("absent", "grown")
        made, copied = (made + room, copied) if adds else (made, max(copied, room))
        computed = job.part or (None if job.is_there else job)
        if computed:
            memory = max(memory, memory_of(computed.header, prepared))
        images, views, channels, height, width = job.header.shape
        print(
            f"{job.path}: {images:,} images × {views} view{'s' * (views > 1)} of {channels}×{height}×{width} "
            f"{job.header.dtype}, {size / 1e6:,.1f} MB, {STATUS[job.status]}"
            + (f": {job.growth.counts}" if job.growth else "")
            + (f" in {job.shards} files" if job.shards > 1 else "")
        )
    if any("random_seed" in job.header.identity["trunk"] for job in jobs):
        print(
            "RANDOM WEIGHTS (--weights none): this trunk has learned nothing; its maps are good for a trial"
        )
    needed = max(0, made + copied)  # one copy at a time, each replaces the old file
    memory *= 1 if config.shard else workers
    weights = sum(parameter.numel() for parameter in prepared.parameters())
    print(
        f"trunk {config.trunk} ({weights:,} parameters) in {prepared.precision} on {prepared.device}; about "
        f"{memory / 1e6:,.0f} MB of memory for images and maps; {needed / 1e6:,.1f} MB to be "
        f"written, {free / 1e6:,.0f} MB free"
    )
    if workers > 1:
        by = "started by something else" if config.shard else ENGINES[config.engine].summary
        print(f"{workers} workers: {by}")
    if needed > free:
        raise CacheError(
            f"{config.cache_dir}: needs {needed / 1e6:,.0f} MB, the disk has {free / 1e6:,.0f} MB free; "
            "make room or choose another --cache"
        )


def memory_of(header: CacheHeader, prepared: PreparedTrunk) -> int:
    """About how many bytes the images and maps take of pieces under way, decoded, or being decoded."""
    images, views, *shape = header.shape
    maps = views * math.prod(shape) * (2 if header.dtype == "float16" else 4)
    pixels, most = 3 * prepared.transform.image_px**2, PIECE_BYTES
    if resizes(prepared.transform, prepared.device):
        pixels *= LARGEST
        most = max(most, prepared.best_batch * (pixels + maps))
    return (UNDER_WAY + 2) * min(min(images, 1024) * (pixels + maps), most)


def room_for(job: Job) -> int:
    """The bytes that the disk must still have."""
    if job.status == "grown":
        return job.part.header.nbytes if job.part and job.part.status == "absent" else 0
    if job.shards == 1:
        return CacheWriter.bytes_needed(job.path, job.header, job.status)
    files = (
        part for path in shard_paths(job.path, job.shards) for part in (path, path.with_suffix(".h5.part"))
    )
    return job.header.nbytes - sum(file.stat().st_blocks * 512 for file in files if file.exists())
