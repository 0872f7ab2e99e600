"""Caches that are there, and images that must be what they were when a file of them was begun."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cache import FeatureCache, relabel
from pipeline.errors import StaleCacheError
from pipeline.extraction.jobs import Job
from pipeline.images.blocks import digests
from pipeline.images.pool import Decoders
from pipeline.progress import Progress


def refresh(job: Job) -> str:
    """Remember that a complete cache's images are still the same, and give it new labels if they changed.

    Gives a line about it. Raises: StaleCacheError, CacheError.
    """
    job.files.write(FeatureCache(job.path))
    if job.status == "relabel":
        return f"{relabel(job.path, job.header)}: labels updated, features kept"
    return f"{job.path}: up to date"


def compare(jobs: Sequence[Job], readers: Decoders) -> None:
    """Compare the images of finished files with the digests in them: each once, also where it is in the files
    of several layers, and none that is known to be as it was.

    Raises: StaleCacheError naming the first image that has changed, DataError.
    """
    found = dict[str, NDArray[np.uint8]]()
    for job in jobs:
        cache = FeatureCache(job.path)
        known = job.files.compared(cache)
        if known.all():
            continue
        recorded, images = cache.image_digests, job.split.paths.sha256
        if images in found:
            known = known | (recorded == found[images]).all(1)
        refuse_changed_images(job, np.where(known[:, None], 0, recorded), readers)
        job.files.remember(cache)
        found[images] = recorded


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
