"""The files of a split that has several: each is made as a split of its own, then a manifest over them.

Which rows a file holds follows from their number and that of the files alone, so whoever makes it, and
however often it is begun, its bytes are the same.
"""

import dataclasses
from pathlib import Path

from cache import CacheWriter, FeatureCache, shard_header, shard_paths, shard_ranges, write_manifest
from pipeline.errors import CacheError
from pipeline.extraction.agreement import VERSIONS, forget
from pipeline.extraction.jobs import Job
from pipeline.extraction.listing import asked_again
from pipeline.extraction.stamp import Files
from pipeline.extraction.work import Work
from pipeline.images.views import Views
from pipeline.wording import some


def file_of(job: Job, number: int, work: Work) -> Job:
    """The job for one of a split's files. Raises: StaleCacheError, CacheError, DataError."""
    if job.shards == 1:
        return job
    rows = shard_ranges(len(job.split), job.shards)[number]
    path, split = shard_paths(job.path, job.shards)[number], job.split.take(rows)
    header = shard_header(job.header, rows)
    views = Views(job.views.spec, len(job.split), work.config.seed, rows)
    status = CacheWriter.status(path, header)
    is_there = status in ("complete", "relabel")
    if is_there and work.listed_before:
        split = asked_again(split)
    files = Files.of(path, split, rehash=work.config.rehash)
    if is_there and job.listed:
        files.take_part(job.files, job.listed, rows, FeatureCache(path))
    return Job(path, split, header, views, files, status)


def missing_files(job: Job) -> list[Path]:
    """Those of a split's files that aren't published yet."""
    return [path for path in shard_paths(job.path, job.shards) if not path.exists()]


def publish(job: Job) -> str:
    """Write the manifest, if all files are there; gives a line about it. Whoever does it writes the same.

    Raises: CacheError when files were made by different versions, or are damaged.
    """
    if missing := missing_files(job):
        names = some((path.name for path in missing), 3)
        return (
            f"{job.path}: {len(missing)} of {job.shards} files are still to be made by other workers "
            f"({names}); the last of them writes it"
        )
    paths = shard_paths(job.path, job.shards)
    notes = [FeatureCache(path).notes for path in paths]
    for path, other in zip(paths, notes, strict=True):
        for package, text in notes[0][VERSIONS].items():
            if package != "device" and other[VERSIONS].get(package) != text:
                raise CacheError(
                    f"{path}: made with {package} {other[VERSIONS].get(package)}, {paths[0].name} with "
                    f"{text}; delete one of them, and run the same command again with the other's version"
                )
    # As the first file says it was made: whoever writes it may have another device.
    write_manifest(job.path, dataclasses.replace(job.header, notes=notes[0]), paths)
    forget(job.path)
    return f"{job.path}: complete, {len(job.split):,} images in {job.shards} files"
