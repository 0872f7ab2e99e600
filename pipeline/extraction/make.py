"""Make the files of one split in one pass over its images, or finish them."""

import contextlib
import math
from collections.abc import Sequence

from cache import CacheWriter
from pipeline.errors import DataError
from pipeline.extraction.jobs import Job
from pipeline.extraction.overlap import write_missing
from pipeline.extraction.refresh import refuse_changed_images
from pipeline.images.decode import ImageError
from pipeline.images.pool import Decoders
from pipeline.progress import say
from pipeline.trunks.prepare import PreparedTrunk


def make(jobs: Sequence[Job], prepared: PreparedTrunk, decoders: Decoders, batch: int | None = None) -> str:
    """Compute what is missing of a split and publish its caches, one for each of the prepared trunk's maps;
    gives a summary.

    Raises: DataError (an image; names the flag that leaves it out), StaleCacheError, CacheError.
    """
    split, views, numbers = jobs[0].split, jobs[0].views, 0
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(CacheWriter(job.path, job.header)) for job in jobs]
        for job, writer in zip(jobs, writers, strict=True):
            if not writer.is_locked:
                say(f"{job.path}: this file system has no locks; don't extract to it twice at a time")
            refuse_changed_images(job, writer.image_digests, decoders)
            numbers += sum(map(len, writer.missing)) * math.prod(job.header.shape[1:])
        try:
            summary = write_missing(writers, split, views, prepared, decoders, batch)
        except ImageError as error:
            advice = "fix or remove it, or leave such images out: --on-bad-image skip"
            begun = [
                f"{job.path}.part"
                for job, writer in zip(jobs, writers, strict=True)
                if sum(map(len, writer.missing)) < len(split)  # any of the three changes the list of images
            ]
            if begun:
                advice += (
                    f"; then delete {' and '.join(begun)}, whose finished blocks belong to the images as "
                    "they are"
                )
            raise DataError(f"{error}; {advice}") from error
        for writer in writers:
            writer.publish()
    if jobs[0].header.dtype == "int8":
        share = sum(writer.saturated for writer in writers) / max(numbers, 1)
        summary += f"; {share:.2g} of the numbers lay beyond the range of int8 and were saturated"
    return summary
