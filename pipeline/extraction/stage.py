"""Stage one: run a frozen trunk once over every image and store its maps.

    decode (threads, processes) → uint8 block → views, trunk (a batch per stream) → maps → cache (a thread)

Decoding, computing and writing overlap; the summary says which of them the others waited for.
Legend: N images, V views, C×H×W map, S = image_px.
"""

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import DTYPES, CacheHeader, CacheWriter, FeatureCache, Status, relabel
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.datasets.summary import lines
from pipeline.device import pick_device, set_up
from pipeline.errors import CacheError, DataError, StaleCacheError
from pipeline.extraction.identity import DRAWN_BY, FLAGS, identity_of, made_with
from pipeline.extraction.in_both import images_in_both
from pipeline.extraction.overlap import memory_of, write_missing
from pipeline.extraction.parity import check_parity
from pipeline.extraction.stamp import Files
from pipeline.images.blocks import digests
from pipeline.images.decode import ImageError
from pipeline.images.pool import Decoders
from pipeline.images.views import Views
from pipeline.progress import Progress
from pipeline.trunks import TRUNKS, load_trunk
from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk, map_shape


@dataclasses.dataclass(frozen=True)
class Job:
    """One split, to be extracted to one file."""

    path: Path
    split: ImageSplit
    header: CacheHeader
    views: Views
    files: Files
    status: Status
    """absent, partial, complete, or relabel (complete but for the labels)."""


STATUS = {
    "absent": "to be made",
    "partial": "to be finished",
    "complete": "there already",
    "relabel": "there already, but for its labels",
}
"""What a job's status is called."""


def extract(config: ExtractConfig) -> Path:
    """Write CACHE/train.h5 and CACHE/test.h5 and give the folder.

    Raises: DataError (an image), WeightsError, StaleCacheError (a cache of something else is in the way),
        CacheError (disk full, another extraction at work).
    """
    # A mistyped model or layer is refused before images are looked for; a short name was checked before.
    early = None if config.trunk in TRUNKS else trunk_of(config)
    splits = open_dataset(
        config.dataset,
        test_fraction=config.test_fraction,
        seed=config.split_seed,
        label_separator=config.label_separator,
        label_column=config.label_column,
    )
    # A published cache has nothing to decode: it is up to date, or refused.
    to_decode = [split for split in splits.values() if has_to_be_decoded(split, config)]
    # First of all, so that processes start while the trunk and the device do.
    with Decoders(to_decode, config.workers) as decoders:
        trunk, device = early or trunk_of(config), pick_device(config.device)
        set_up(device, tf32=False)
        prepared = PreparedTrunk(trunk, device, config.precision)
        config.cache_dir.mkdir(parents=True, exist_ok=True)
        jobs = [plan(config, trunk, prepared, split, decoders) for split in splits.values()]
        announce(config, prepared, jobs)
        for job in jobs:
            if job.status in ("complete", "relabel"):
                refresh(job, config.workers)
            else:
                summary = make(job, prepared, decoders, config.batch)
                worst = check_parity(job.path, job.split, trunk, job.views)
                job.files.write(FeatureCache(job.path))
                print(f"{job.path}: {summary}; equal to the live trunk within {worst:.1g}")
        if shared := images_in_both(*(FeatureCache(config.cache_dir / f"{s}.h5") for s in ("train", "test"))):
            print(shared)
    return config.cache_dir


def has_to_be_decoded(split: ImageSplit, config: ExtractConfig) -> bool:
    """Whether images of a split will have to be decoded, as far as can be said before the trunk is there."""
    path = config.cache_dir / f"{split.split}.h5"
    if path.exists() and config.on_bad_image == "skip":
        return not Files.of(path, split, rehash=config.rehash).unchanged.all()
    return not path.exists()


def trunk_of(config: ExtractConfig) -> Trunk:
    """The trunk that --trunk, --weights and the flags of its transform describe. Raises: WeightsError."""
    return load_trunk(config.trunk, config.weights, **config.transform)


def plan(
    config: ExtractConfig, trunk: Trunk, prepared: PreparedTrunk, split: ImageSplit, decoders: Decoders
) -> Job:
    """Decide what is to be done for a split. Raises: StaleCacheError, DataError, ConfigError."""
    path, skipped = config.cache_dir / f"{split.split}.h5", []
    files = Files.of(path, split, rehash=config.rehash)
    if config.on_bad_image == "skip":
        bad = files.undecodable(split, decoders, trunk.transform)
        skipped = [{"path": split.paths[row], "reason": reason} for row, reason in bad.items()]
        split = split.without(bad)
        for image in skipped:
            print(f"left out: {image['path']}: {image['reason']}")
        if not len(split):
            raise DataError(
                f"{config.dataset}: {split.split}: expected an image that can be decoded, found none; "
                "look at the files named above"
            )
    spec = config.views if split.split == "train" or config.views == "mirror" else "plain"
    views = Views(spec, len(split), config.seed)
    header = CacheHeader(
        shape=(len(split), views.per_image, *map_shape(prepared, trunk.transform.image_px)),
        dtype=config.dtype,
        labels=split.labels,
        paths=split.paths,
        classes=split.classes,
        identity=identity_of(split, trunk, prepared.precision, spec, config.seed),
        notes={
            **{name: getattr(config, name) for name in DRAWN_BY},
            "test_fraction": float(config.test_fraction),
            "skipped": skipped,
            "made_with": made_with(prepared.device),
        },
        flags=FLAGS,
    )
    status = CacheWriter.status(path, header)
    if config.on_bad_image == "skip" and status in ("absent", "partial"):
        files.write()  # it took a while
    return Job(path, split, header, views, files, status)


def announce(config: ExtractConfig, prepared: PreparedTrunk, jobs: list[Job]) -> None:
    """Print what will be done. Raises: CacheError when the disk has no room for it."""
    made, copied, memory, free = 0, 0, 0, shutil.disk_usage(config.cache_dir).free
    for job in jobs:
        print(*lines(job.split), sep="\n")
        size = math.prod(job.header.shape) * DTYPES[job.header.dtype].raw.itemsize
        room = CacheWriter.bytes_needed(job.path, job.header, job.status)
        made, copied = (made + room, copied) if job.status == "absent" else (made, max(copied, room))
        if job.status in ("absent", "partial"):
            memory = max(memory, memory_of(job.header, prepared.transform.image_px))
        images, views, channels, height, width = job.header.shape
        print(
            f"{job.path}: {images:,} images × {views} view{'s' * (views > 1)} of {channels}×{height}×{width} "
            f"{job.header.dtype}, {size / 1e6:,.1f} MB, {STATUS[job.status]}"
        )
    needed = max(0, made + copied)  # one copy at a time, each replaces the old file
    weights = sum(parameter.numel() for parameter in prepared.parameters())
    print(
        f"trunk {config.trunk} ({weights:,} parameters) in {prepared.precision} on {prepared.device}; about "
        f"{memory / 1e6:,.0f} MB of memory for images and maps; {needed / 1e6:,.1f} MB to be written, "
        f"{free / 1e6:,.0f} MB free"
    )
    if needed > free:
        raise CacheError(
            f"{config.cache_dir}: needs {needed / 1e6:,.0f} MB, the disk has {free / 1e6:,.0f} MB free; "
            "make room or choose another --cache"
        )


def make(job: Job, prepared: PreparedTrunk, decoders: Decoders, batch: int | None = None) -> str:
    """Compute what is missing and publish the cache; gives a summary.

    Raises: DataError (an image; names the flag that leaves it out), StaleCacheError, CacheError.
    """
    with CacheWriter(job.path, job.header) as writer:
        if not writer.is_locked:
            print(f"{job.path}: this file system has no locks; don't extract to it twice at a time")
        refuse_changed_images(job, writer.image_digests, decoders)
        try:
            summary = write_missing(writer, job.split, job.views, prepared, decoders, batch)
        except ImageError as error:
            advice = "fix or remove it, or leave such images out: --on-bad-image skip"
            if sum(map(len, writer.missing)) < len(job.split):  # any of the three changes the list of images
                advice += (
                    f"; then delete {job.path}.part, whose finished blocks belong to the images as they are"
                )
            raise DataError(f"{error}; {advice}") from error
        writer.publish()
    return summary


def refresh(job: Job, workers: int | None) -> None:
    """Check that a complete cache's images are still the same, and give it new labels if they changed."""
    cache = FeatureCache(job.path)
    recorded = np.where(job.files.compared(cache)[:, None], 0, cache.image_digests)
    with Decoders([job.split.take(np.flatnonzero(recorded.any(axis=1)))], workers) as readers:
        refuse_changed_images(job, recorded, readers)
    job.files.write(cache)
    if job.status == "relabel":
        relabel(job.path, job.header)
    print(f"{job.path}: {'labels updated, features kept' if job.status == 'relabel' else 'up to date'}")


def refuse_changed_images(job: Job, recorded: NDArray[np.uint8], readers: Decoders) -> None:
    """Compare the images' bytes with the digests (N, 16) recorded when they were read; zeros are none.

    Raises: StaleCacheError naming the first image that has changed.
    """
    rows = np.flatnonzero(recorded.any(axis=1))
    with Progress(f"comparing {job.split.split}", len(rows), "images") as progress:
        for some, found in digests(job.split.take(rows), readers):
            progress.advance(len(some))
            differ = (found != recorded[rows[some.start : some.stop]]).any(axis=1)
            if differ.any():
                path = job.split.paths[int(rows[some.start + int(differ.argmax())])]
                raise StaleCacheError(
                    f"{job.path}: made from another image: the bytes of {path} have changed; "
                    f"delete {job.path.name}* or choose another --cache"
                )
