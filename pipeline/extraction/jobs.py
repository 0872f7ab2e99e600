"""What an extraction will do: a job for each split, planned and announced before anything is computed.

Legend: N images, V views, C×H×W map, S = image_px.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, Literal

from cache import (
    CacheHeader,
    CacheWriter,
    FeatureCache,
    Listed,
    Scales,
    Status,
    listed,
    shard_ranges,
    split_path,
)
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit
from pipeline.device import threads_for
from pipeline.errors import DataError
from pipeline.extraction.begun import begun, files_to_mend, shards_of
from pipeline.extraction.growth import Growth, growth_of, has_grown
from pipeline.extraction.identity import DRAWN_BY, FLAGS, identity_of, made_with
from pipeline.extraction.stamp import Files
from pipeline.images.pool import Decoders
from pipeline.images.views import Views
from pipeline.progress import say
from pipeline.trunks.base import Trunk
from pipeline.trunks.prepare import PreparedTrunk, map_shapes


@dataclasses.dataclass(frozen=True)
class Job:
    """One split, to be extracted to one file, or to several with a manifest; or one of these files."""

    path: Path
    split: ImageSplit
    header: CacheHeader
    views: Views
    files: Files
    status: Status | Literal["grown"]
    """absent, partial, complete, relabel (complete but for the labels), or grown: made from other images."""
    shards: int = 1
    """How many files there are to be; 1 for the one at `path`, else that is the manifest."""
    growth: Growth | None = None
    """Where the cache that is there was made from other images: what becomes of it."""
    part: "Job | None" = None
    """The file of the images that it lacks, if it does."""

    @property
    def is_there(self) -> bool:
        """Whether there is a cache, of the same images or of others."""
        return self.status in ("complete", "relabel", "grown")

    @functools.cached_property
    def listed(self) -> Listed | None:
        """What the manifest says that is there, as of a split of which a file is gone."""
        return listed(self.path) if self.path.suffix == ".json" and self.path.exists() else None


STATUS = {
    "absent": "to be made",
    "partial": "to be finished",
    "complete": "there already",
    "relabel": "there already, but for its labels",
    "grown": "there already, but for its images",
}
"""What a job's status is called."""


def plan(
    config: ExtractConfig,
    trunk: Trunk,
    prepared: PreparedTrunk,
    split: ImageSplit,
    decoders: Decoders,
    layer: int = 0,
    workers: int = 1,
    scales: Scales | None = None,
    *,
    grows: bool = True,
) -> Job:
    """Decide what is to be done for a split. Raises: StaleCacheError, DataError, ConfigError.

    layer: which of the prepared trunk's maps these are. workers: how many there are to do it. scales: those
    of int8. grows: whether it is this one who compares the images of a cache that is there, and adds new
    ones to it.
    """
    path = split_path(config.cache_dirs[layer], split.split)
    skipped: list[dict[str, str]] = []
    files = Files.of(path, split, rehash=config.rehash)
    cache = FeatureCache(path) if path.exists() and not files_to_mend(path) else None
    if cache:
        files.take_over(cache, split.paths)
    if config.on_bad_image == "skip":
        split, skipped = _without_bad(config, trunk, split, files, decoders)
    spec = config.views if split.split == "train" or config.views == "mirror" else "plain"
    views = Views(spec, len(split), config.seed)
    with threads_for(trunk.transform.image_px):
        map_shape = map_shapes(prepared, trunk.transform.image_px)[layer]
    header = CacheHeader(
        shape=(len(split), views.per_image, *map_shape),
        dtype=config.dtype,
        labels=split.labels,
        paths=split.paths,
        classes=split.classes,
        identity=identity_of(split, trunk, prepared.precision, spec, config.seed),
        notes=_notes(config, prepared, skipped),
        flags=FLAGS,
        scales=scales,
    )
    if cache and has_grown(cache, header) and not grows:
        return Job(path, split, header, views, files, "grown")
    if cache and grows and (growth := growth_of(cache, header, split, files, config.decoders)):
        kept = header.notes | {"made_with": cache.notes.get("made_with")}
        whole = dataclasses.replace(header, notes=kept, flags=FLAGS)
        job = Job(path.with_suffix(".json"), split, whole, views, files, "grown", growth=growth)
        identity = identity_of(split.take(growth.new), trunk, prepared.precision, spec, config.seed)
        return dataclasses.replace(job, part=new_file(job, identity, header.notes, config.seed))
    path, status, shards = layout(config, path, header, workers)
    compared = path.exists() and files.before  # a stamp of more than this, for the files that aren't gone
    if config.on_bad_image == "skip" and status in ("absent", "partial") and not compared:
        files.write()  # it took a while
    return Job(path, split, header, views, files, status, shards)


def _without_bad(
    config: ExtractConfig, trunk: Trunk, split: ImageSplit, files: Files, decoders: Decoders
) -> tuple[ImageSplit, list[dict[str, str]]]:
    """A split without the images that can't be decoded, and which these are, and why. Raises: DataError."""
    bad = files.undecodable(split, decoders, trunk.transform)
    skipped = [{"path": split.paths[row], "reason": reason} for row, reason in bad.items()]
    left = split.without(bad)
    for image in skipped:
        say(f"left out: {image['path']}: {image['reason']}")
    if not len(left):
        raise DataError(
            f"{config.dataset}: {split.split}: expected an image that can be decoded, found none; "
            "look at the files named above"
        )
    return left, skipped


def _notes(config: ExtractConfig, prepared: PreparedTrunk, skipped: list[dict[str, str]]) -> dict[str, Any]:
    return {
        **{name: getattr(config, name) for name in DRAWN_BY},
        "test_fraction": float(config.test_fraction),
        "skipped": skipped,
        "made_with": made_with(prepared.device),
    }


def new_file(job: Job, identity: dict[str, Any], notes: dict[str, Any], seed: int) -> Job | None:
    """The job for the file of images that a cache lacks; None where it lacks none. Raises: CacheError."""
    if job.growth is None or not (rows := job.growth.new).size:
        return None
    split, whole = job.split.take(rows), job.header
    header = dataclasses.replace(
        whole,
        shape=(len(split), *whole.shape[1:]),
        labels=split.labels,
        paths=split.paths,
        identity=identity,
        notes={**notes, "skipped": []},
    )
    path = job.growth.new_file(job.path, header)
    views = Views(job.views.spec, len(split), seed)
    return Job(path, split, header, views, job.files, CacheWriter.status(path, header))


def layout(config: ExtractConfig, path: Path, header: CacheHeader, workers: int) -> tuple[Path, Status, int]:
    """Where a split is or will be, how much of it is there, and how many files still have to be made for it.

    Raises: StaleCacheError, CacheError.
    """
    if count := files_to_mend(path):
        return path, "partial", count
    if path.exists():
        return path, CacheWriter.status(path, header), 1
    manifest, one_file = path.with_suffix(".json"), path.with_suffix(".h5")
    wanted = config.shards or (workers if config.shard else None)
    wanted, possible = (n and len(shard_ranges(header.shape[0], n)) for n in (wanted, workers))
    count = shards_of(manifest, wanted, possible or 1)
    if count == 1:
        return one_file, CacheWriter.status(one_file, header), 1
    return manifest, "partial" if begun(manifest) else "absent", count
