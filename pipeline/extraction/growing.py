"""Let caches grow: the images that they lack make one more file, and a new manifest says what the split is.

Killed anywhere, the same command does what is left: the new file goes on where it stopped, and until the
manifest is renamed to its name the split is what it was.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from cache import FeatureCache, leave_out, missing_shards, write_manifest
from pipeline.errors import StaleCacheError
from pipeline.extraction.begun import files_to_mend
from pipeline.extraction.growth import OF_IMAGES, Growth
from pipeline.extraction.jobs import Job
from pipeline.extraction.parity import check_parity
from pipeline.images.pool import Decoders
from pipeline.progress import say
from pipeline.trunks.base import Trunk

Compute = Callable[[Sequence[tuple[Job, Trunk]], Decoders], str]
"""Makes the files of some layers in one pass; gives a summary."""


def mend(path: Path) -> None:
    """Leave out of a split that has grown what lay in files that are gone, to be computed again as new
    images. Raises: CacheError when what is left is damaged.
    """
    if path.suffix != ".json" or not path.exists():
        return
    if (gone := missing_shards(path)) and not files_to_mend(path):
        names = ", ".join(file.name for file in gone[:8])
        say(f"{path}: {names} is gone; the images in it are computed again")
        leave_out(path, gone, OF_IMAGES)


def grow(pairs: Sequence[tuple[Job, Trunk]], compute: Compute, decoders: int | None = None) -> Iterator[str]:
    """Add what is missing to the caches of a split, one for each layer; yields a line about each.

    Raises: DataError, CacheError; StaleCacheError when an image changes meanwhile.
    """
    summaries = dict[str, str]()
    for together in _of_same_images([(job.part, trunk) for job, trunk in pairs if job.part]):
        missing = [(part, trunk) for part, trunk in together if not part.is_there]
        if missing:
            with Decoders([missing[0][0].split], decoders) as readers:
                summary = compute(missing, readers)
            summaries |= {str(part.path): summary for part, _ in missing}
    for job, trunk in pairs:
        if job.growth:
            yield _publish(job, job.growth, trunk, summaries)


def _of_same_images(pairs: Sequence[tuple[Job, Trunk]]) -> list[list[tuple[Job, Trunk]]]:
    """The layers of which the same images are missing, which take one pass."""
    groups = dict[str, list[tuple[Job, Trunk]]]()
    for part, trunk in pairs:
        groups.setdefault(part.split.paths.sha256, []).append((part, trunk))
    return list(groups.values())


def _publish(job: Job, growth: Growth, trunk: Trunk, summaries: dict[str, str]) -> str:
    """Check the new file, and write the manifest; gives a line about it."""
    shards, said = list(growth.shards), "no image computed"
    if part := job.part:
        _refuse_changed(part, growth)
        worst = check_parity(part.path, part.split, trunk, part.views)
        shards.append(part.path)
        made = summaries.get(str(part.path), "there already")
        said = f"{made}; equal to the live trunk within {worst:.1g}"
    write_manifest(job.path, job.header, shards, growth.all_places(), OF_IMAGES)
    job.files.write(FeatureCache(job.path))
    return f"{job.path}: {len(job.split):,} images in {len(shards)} files; {said}"


def _refuse_changed(part: Job, growth: Growth) -> None:
    """Raises: StaleCacheError when an image isn't what it was when it was compared with the cache."""
    differ = (FeatureCache(part.path).image_digests != growth.digests[growth.new]).any(1)
    if differ.any():
        raise StaleCacheError(
            f"{part.path}: the bytes of {part.split.paths[int(np.argmax(differ))]} changed while it was "
            f"extracted; delete {part.path.name} and run the same command again"
        )
