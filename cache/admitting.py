"""Look at a published file that is to be one of a manifest's, and refuse it where it can't be.

What is kept of it is small: a manifest may list thousands, with 1e8 images in all.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache.contents import Contents, opened, read_digests, read_published
from cache.errors import CacheError
from cache.format import HEADER_DIGESTS, IMAGE_DIGESTS
from cache.header import CacheHeader
from cache.identity import differences
from cache.manifest import Shard
from cache.manifest_fields import plain_name
from cache.paths import Paths
from cache.scales import stored_as


class Found(NamedTuple):
    """What a manifest says of a published file, and in what the file differs from the split: no arrays, for
    there may be thousands."""

    shard: Shard
    varies: frozenset[str]
    other_labels: bool
    other_paths: bool


class ImagesDigest:
    """The digest over the images of all files: of rows that lie in order one file is there at a time."""

    def __init__(self, *, keeps: bool) -> None:
        self._keeps, self._sha256, self._kept = keeps, hashlib.sha256(), list[NDArray[np.uint8]]()

    def add(self, digests: NDArray[np.uint8]) -> None:
        if self._keeps:
            self._kept.append(digests)
        else:
            self._sha256.update(digests.data)

    def digest(self, places: NDArray[np.int64] | None) -> bytes:
        if self._keeps:
            every = np.concatenate(self._kept)
            self._sha256.update(np.ascontiguousarray(every if places is None else every[places]).data)
        return self._sha256.digest()


def look_at(
    path: Path,
    shard: Path,
    header: CacheHeader,
    number: int,
    varying: Collection[str],
    begin: int,
    images: ImagesDigest,
) -> Found:
    """Open a shard whose first row has the place `begin`. Raises: CacheError when it can't be one of the
    manifest."""
    plain_name(f"{path}: shard {number}", shard.name)
    if shard.parent.resolve() != path.parent.resolve() or shard.is_symlink():
        raise CacheError(f"{shard}: expected a file, no link, in the folder of its manifest, {path.parent}")
    if shard.suffix != ".h5":
        raise CacheError(f"{shard}: expected a name that ends in .h5")
    with opened(shard) as fd:
        contents = read_published(fd, str(shard))
        images.add(read_digests(fd, contents.layout, IMAGE_DIGESTS))
    own = contents.header
    kept = (own.identity.keys() | header.identity.keys()) - set(varying)
    was, wanted = ({n: h.identity[n] for n in kept if n in h.identity} for h in (own, header))
    fields = differences(was, wanted)
    fields += differences(
        {"maps": list(own.shape[1:])} | stored_as(own.dtype, own.scales),
        {"maps": list(header.shape[1:])} | stored_as(header.dtype, header.scales),
    )
    if fields:
        raise CacheError(
            f"{shard}: no shard of this cache: made from something else: {'; '.join(fields[:8])}; delete it "
            "or choose another folder"
        )
    rows = range(begin, begin + own.shape[0])
    there = range(*(min(at, header.shape[0]) for at in (rows.start, rows.stop)))
    classes = [(tuple(each.classes), each.multi_label) for each in (own, header)]
    return Found(
        _listed(shard, contents, rows),
        frozenset(n for n in varying if differences(own.identity.get(n), header.identity.get(n))),
        classes[0] != classes[1] or not np.array_equal(own.labels, header.labels[there.start : there.stop]),
        Paths.of(own.paths) != Paths.of(header.paths).take(there),
    )


def _listed(path: Path, contents: Contents, rows: range) -> Shard:
    return Shard(
        file=path.name,
        rows=rows,
        nbytes=contents.layout.end,
        key=contents.header.key,
        header=contents.header_digests,
        header_at=contents.layout[HEADER_DIGESTS].offset,
        fingerprint=contents.fingerprint,
    )
