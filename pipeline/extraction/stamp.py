"""What was known of a split's image files when they were last read, so that few need to be read again.

A file of the same size, inode and time of change has the contents that it had: every write moves that time,
and nobody can set it. The stamp lies beside the cache, is bound to its key and to the digest over its images,
and is never needed: without it, or with one that is damaged or about something else, every image is read.
"""

import json
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray
from xxhash import xxh3_128, xxh3_128_digest

from cache import FeatureCache, Listed, Paths
from cache.identity import canonical
from pipeline.datasets.base import ImageSplit
from pipeline.extraction.matching import Found, rows_by_path
from pipeline.files import replacing
from pipeline.images.blocks import find_bad
from pipeline.images.pool import Decoders
from pipeline.images.transform import Transform
from pipeline.progress import say

V = TypeVar("V", bound=np.generic)

MARK = b"ten-crop-stamp/1\n"
FRESH_NS = 2_000_000_000
"""A file that changed so shortly before it was read may change again within one tick of its file system's
clock, which is 2 s at the coarsest. It is read again next time."""


@dataclass(frozen=True, eq=False)
class Stamp:
    """About the images of a split before any is left out, (N,)."""

    paths: str
    """Digest of the images' paths."""
    statuses: NDArray[np.int64]
    """(N, 3), `ImageReader.statuses`; -1 where a file was fresh, or couldn't be read."""
    decoding: str = ""
    """What decided, beside its bytes, whether an image can be decoded; empty where nobody looked."""
    bad: dict[int, str] = field(default_factory=dict)
    """Row → reason, of every image that can't be decoded."""
    cache: str = ""
    """Key and images digest of the cache that the images were compared with."""

    def to_bytes(self) -> bytes:
        head, statuses = self.head + b"\n", np.ascontiguousarray(self.statuses, "<i8").data
        digest = xxh3_128(head)
        digest.update(statuses)
        return b"".join([MARK, digest.digest(), head, statuses])

    @property
    def head(self) -> bytes:
        """All but the statuses."""
        bad = sorted(self.bad.items())
        return canonical({"paths": self.paths, "decoding": self.decoding, "bad": bad, "cache": self.cache})


def read(path: Path) -> Stamp | None:
    """None where there is no stamp, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    begin = len(MARK) + 16
    if data[:begin] != MARK + xxh3_128_digest(memoryview(data)[begin:]):
        return None
    end = data.index(b"\n", begin)
    fields, statuses = json.loads(data[begin:end]), np.frombuffer(data, "<i8", offset=end + 1)
    return Stamp(**fields | {"bad": dict(fields["bad"])}, statuses=statuses.reshape(-1, 3))


@dataclass(eq=False)
class Files:
    """What is known of a split's image files: from a stamp, and from this run, which read none before."""

    path: Path
    """Of the stamp."""
    now: Stamp | None
    """As it would be written; None for images that are in memory."""
    before: Stamp | None
    """As it was found, if it is about the same images."""
    unchanged: NDArray[np.bool_]
    """(N,) which files are as they were then."""
    statuses: NDArray[np.int64] | None = None
    """(N, 3), as they are now; None for images that are in memory."""
    of_others: Stamp | None = None
    """The stamp that was found, if it is about another list of images."""
    kept: NDArray[np.int64] | None = None
    """Rows of the images that aren't left out; None where none is."""
    rows: Found | None = None
    """(N,) of the images in the cache that was taken over, if it is known."""
    known: NDArray[np.bool_] | bool = False
    """Which of the images that are kept have the digests of the cache `known_of`, whatever a stamp says."""
    known_of: str = ""

    @classmethod
    def of(cls, cache: Path, split: ImageSplit, *, rehash: bool) -> "Files":
        """Of the split that `cache` holds. `rehash` takes no notice of the stamp. Raises: DataError."""
        path, statuses = cache.with_suffix(".h5.stamp"), split.images.statuses()
        nothing = np.zeros(len(split), np.bool_)
        if statuses is None:
            return cls(path, None, None, nothing)
        is_fresh = statuses[:, 2:] > time.time_ns() - FRESH_NS
        now = Stamp(split.paths.sha256, np.where(is_fresh, -1, statuses) if is_fresh.any() else statuses)
        before = None if rehash else read(path)
        if before is None or before.paths != now.paths:
            return cls(path, now, None, nothing, statuses, before)
        unchanged = (before.statuses == statuses).all(1)
        return cls(path, before if unchanged.all() else now, before, unchanged, statuses)

    def take_over(self, cache: FeatureCache, paths: Paths) -> None:
        """Believe a stamp about the images of `cache`, though the split has others now; `paths` are its."""
        if self.of_others is None or self.statuses is None or self.now is None:
            return
        skipped = [image["path"] for image in cache.notes.get("skipped", ())]
        for listed in (cache.paths, Paths(sorted([*cache.paths, *skipped])) if skipped else None):
            if listed is not None and listed.sha256 == self.of_others.paths:
                break
        else:
            return
        rows = rows_by_path(paths, listed)
        self.rows = rows if listed is cache.paths else None
        statuses = np.where(rows[:, None] >= 0, self.of_others.statuses[rows], -1)
        place = {int(row): at for at, row in enumerate(rows.tolist()) if row >= 0}
        bad = {place[row]: reason for row, reason in self.of_others.bad.items() if row in place}
        self.before = replace(self.of_others, paths=self.now.paths, statuses=statuses, bad=bad)
        self.unchanged = (statuses == self.statuses).all(1)

    def undecodable(self, split: ImageSplit, decoders: Decoders, transform: Transform) -> dict[int, str]:
        """Row → reason of every image that can't be decoded, which is left out from now on; only those are
        decoded of which it isn't known."""
        decoding = canonical({"transform": transform.as_json(), "pillow": PIL.__version__}).decode()
        rows, known = np.arange(len(split)), dict[int, str]()
        if self.before and self.before.decoding == decoding:
            known = {row: reason for row, reason in self.before.bad.items() if self.unchanged[row]}
            rows = rows[~self.unchanged]
        found = find_bad(split.take(rows), transform, decoders) if rows.size else []
        bad = dict(sorted((known | {int(rows[i]): reason for i, reason in found}).items()))
        self.kept = np.delete(np.arange(len(split)), list(bad)) if bad else None
        if self.now:
            statuses = self.now.statuses.copy()
            statuses[[row for row, reason in bad.items() if reason.startswith("can't be read")]] = -1
            self.now = replace(self.now, statuses=statuses, decoding=decoding, bad=bad)
        return bad

    def rows_in(self, cache: FeatureCache, paths: Paths) -> Found:
        """(N,) the rows of the images that are kept, whose paths these are, in a cache; -1 without one."""
        return rows_by_path(paths, cache.paths) if self.rows is None else self._of_kept(self.rows)

    def compared(self, cache: FeatureCache) -> NDArray[np.bool_]:
        """Which of the images that are kept have the digests that a cache recorded, as far as is known."""
        name = _name(cache)
        is_about = self.before is not None and self.before.cache == name
        return (self._of_kept(self.unchanged) & is_about) | (self.known if self.known_of == name else False)

    def remember(self, cache: FeatureCache, known: NDArray[np.bool_] | bool = True) -> None:
        """From now on these of the images that are kept, or all, are known to have the digests of `cache`."""
        self.known, self.known_of = known, _name(cache)

    def take_part(self, whole: "Files", listed: Listed, rows: range, cache: FeatureCache) -> None:
        """Believe the stamp of a whole split about these rows of it, if its manifest lists `cache`, which
        holds them: mending one file is no reason to read the images of all others."""
        before, part = whole.before, slice(rows.start, rows.stop)
        if before is None or self.statuses is None or before.cache != _name(listed):
            return
        if listed.fingerprints.get(cache.path.name) == cache.fingerprint:
            then = before.statuses[part if whole.kept is None else whole.kept[part]]
            self.remember(cache, (then == self.statuses).all(1))

    def _of_kept(self, values: NDArray[V]) -> NDArray[V]:
        return values if self.kept is None else values[self.kept]

    def write(self, cache: FeatureCache | None = None) -> None:
        """Remember all this, and that the images are those of `cache`. Says so where that isn't possible."""
        if not self.now:
            return
        self.now = replace(self.now, cache=_name(cache) if cache else "")
        before = None if self.of_others else self.before
        if before and before.head == self.now.head and np.array_equal(before.statuses, self.now.statuses):
            return
        try:
            with replacing(self.path) as part:
                part.write_bytes(self.now.to_bytes())
        except OSError as error:
            say(f"{self.path}: can't be written: {error.strerror}; the next start reads all images again")


def _name(cache: FeatureCache | Listed) -> str:
    return f"{cache.key} {cache.images_digest}"
