"""A split whose images are others than those that its cache was made from: what stays, and what is new.

    images (paths, digests) + caches that are there → of each image the place of its maps, or none

Images are known by the digests of their files, so one that was moved or renamed, or that another draw of the
test split put on the other side, is found again. Nothing that is there is changed: new images make one more
file, and a new manifest says which rows of which files the split has, in the order of one extracted anew.

Legend: N images, n of them new.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import CacheHeader, FeatureCache
from cache.identity import canonical
from pipeline.datasets.base import ImageSplit
from pipeline.errors import StaleCacheError
from pipeline.extraction.counts import Counts, counted
from pipeline.extraction.matching import Found, rows_by_digest
from pipeline.extraction.places import Pool
from pipeline.extraction.stamp import Files
from pipeline.images.blocks import digests
from pipeline.images.pool import Decoders
from pipeline.progress import Progress

OF_IMAGES = ("image_sizes", "split", "val_rows", "views_images")
"""Fields of the identity that say which images a file is made of, and nothing about how."""
DRAWN_BY = ("test_fraction", "split_seed")
"""Notes that decide which images there are."""


@dataclasses.dataclass(frozen=True, eq=False)
class Growth:
    """What becomes of a split whose images are others now."""

    shards: tuple[Path, ...]
    """The files that stay."""
    places: Found
    """(N,) of each image's maps among the rows of all shards; -1 of images that are to be computed."""
    rows: int
    """How many rows these files have."""
    digests: NDArray[np.uint8]
    """(N, 16)"""
    counts: Counts

    @property
    def new(self) -> Found:
        """(n,) rows to compute."""
        return np.flatnonzero(self.places < 0)

    def new_file(self, manifest: Path, header: CacheHeader) -> Path:
        """The name of the file that the new images make: by what it holds, so that it can't be another's.
        `header` is its own."""
        content = header.key.encode() + self.digests[self.new].tobytes()
        return manifest.with_name(f"{manifest.stem}-{hashlib.sha256(content).hexdigest()[:12]}.h5")

    def all_places(self) -> Found:
        """(N,) the places, where the new file is the last of the shards."""
        places = self.places.copy()
        places[self.new] = self.rows + np.arange(len(self.new))
        return places


def has_grown(cache: FeatureCache, header: CacheHeader) -> bool:
    """Whether a cache differs from the wanted one in nothing but its images, as far as their names and sizes
    tell."""
    drawn_alike = all(cache.notes.get(name) == header.notes.get(name) for name in DRAWN_BY)
    return cache.key != header.key and drawn_alike and _made_alike(cache, header)


def growth_of(
    cache: FeatureCache, header: CacheHeader, split: ImageSplit, files: Files, decoders: int | None
) -> Growth | None:
    """What becomes of the cache of a split; None where it is of the same images, or was made otherwise, so
    that nothing of it can stay.

    header: as the split is wanted now. Reads the images of which it isn't known that they are as they were.

    Raises: DataError; StaleCacheError when none of its images stays, or all views were drawn together.
    """
    path = cache.path
    if cache.key != header.key and not has_grown(cache, header):
        return None
    if cache.key != header.key:
        _refuse_augmented(path, header, f"{len(cache):,}, now there are {len(split):,}")
    by_path = files.rows_in(cache, split.paths)
    found = contents(split, files, cache, by_path, decoders)
    recorded = cache.image_digests
    rows = np.where((by_path >= 0) & (found == recorded[by_path]).all(1), by_path, -1)
    if cache.key == header.key and (rows == np.arange(len(rows))).all():
        files.remember(cache)
        return None
    as_they_were = rows >= 0
    _refuse_augmented(path, header, f"the bytes of {split.paths[int(as_they_were.argmin())]} have changed")
    rows[~as_they_were] = rows_by_digest(found[~as_they_were], recorded)
    pool, places = Pool(), np.full(len(rows), -1)
    places[rows >= 0] = pool.places(cache, rows[rows >= 0])
    beside = _beside(path, header)
    if beside and (places < 0).any():
        missing = np.flatnonzero(places < 0)
        theirs = rows_by_digest(found[missing], beside.image_digests)
        places[missing[theirs >= 0]] = pool.places(beside, theirs[theirs >= 0])
    _refuse_strangers(path, cache, header, rows, places)
    counts = counted(cache, header, by_path, rows, places, as_they_were)
    return Growth(*pool.used(places, always=path.with_suffix(".h5")), found, counts)


def contents(
    split: ImageSplit, files: Files, cache: FeatureCache, by_path: Found, decoders: int | None
) -> NDArray[np.uint8]:
    """(N, 16) the digests of the images: those that the cache recorded where the files are as they were then,
    else read. Raises: DataError."""
    known = files.compared(cache) & (by_path >= 0)
    found = np.zeros((len(split), 16), np.uint8)
    found[known] = cache.image_digests[by_path[known]]
    rows = np.flatnonzero(~known)
    if rows.size:
        unknown = split.take(rows)
        with (
            Decoders([unknown], decoders) as readers,
            Progress(f"comparing {split.split}", len(rows), "images") as progress,
        ):
            for some, read in digests(unknown, readers):
                found[rows[some.start : some.stop]] = read
                progress.advance(len(some))
    return found


def _made_alike(cache: FeatureCache, header: CacheHeader) -> bool:
    """Whether rows of a cache can be rows of the split that is wanted."""
    now, then = (canonical(_of_maps(identity)) for identity in (header.identity, cache.identity))
    stored = (cache.dtype, cache.shape[1:]) == (header.dtype, tuple(header.shape[1:]))
    scales = [None if each.scales is None else each.scales.tobytes() for each in (cache, header)]
    return now == then and stored and scales[0] == scales[1]


def _of_maps(identity: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in identity.items() if name not in OF_IMAGES}


def _beside(path: Path, header: CacheHeader) -> FeatureCache | None:
    """The cache of the other split, if it holds maps of the same kind."""
    other = "test" if header.identity.get("split") == "train" else "train"
    found = next((p for s in (".json", ".h5") if (p := path.with_name(other + s)).exists()), None)
    cache = FeatureCache(found) if found else None
    return cache if cache and _made_alike(cache, header) else None


def _refuse_augmented(path: Path, header: CacheHeader, changed: str) -> None:
    """Raises: StaleCacheError where no row can stay, for an image's versions are drawn with those of all
    others."""
    views = str(header.identity.get("views"))
    if views.startswith("augment"):
        raise StaleCacheError(
            f"{path}: made from other images, {changed}; --views {views} draws the versions of all images "
            f"together, so that none can stay; delete {path.name}* or choose another --cache"
        )


def _refuse_strangers(
    path: Path, cache: FeatureCache, header: CacheHeader, rows: Found, places: Found
) -> None:
    """Raises: StaleCacheError when it seems to be the cache of another dataset."""
    then, now = (notes.get("dataset") for notes in (cache.notes, header.notes))
    stay = len(np.unique(rows[rows >= 0]))
    if (places >= 0).any() and (then == now or 2 * stay >= len(cache)):
        return
    raise StaleCacheError(
        f"{path}: made from other images, of dataset {then}: of its {len(cache):,} images {stay:,} are among "
        f"the {len(rows):,} of {now}; delete {path.stem}* or choose another --cache"
    )
