"""Fetch a published split from a store, or from another disk, to a folder, and check all of its digests.

    fetch_split("https://host/photos/train.h5", Path("photos"))   # or train.json, and its shards

What was cut off goes on where it stopped. Nothing gets its final name before every digest was found right. A
split that is there already is known by its digests: of the one in the store, only they are read again.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import xxhash

from cache import disk
from cache.copying import checked, copied, held, is_same, refuse_full, refuse_other, unfinished
from cache.errors import CacheError
from cache.manifest import SUFFIX, Manifest, Shard
from cache.manifest_checks import MAX_BYTES, read_manifest
from cache.many_files import ManyFiles
from cache.origins import beside, inside, is_there, size_of, whole

Watch = Callable[[float], object]


class Fetched(NamedTuple):
    """A split that is there now."""

    path: Path
    fingerprint: str
    nbytes: int
    is_new: bool
    """Whether some of it had to be copied."""


def places_in(folder: str, names: Sequence[str]) -> list[str]:
    """The places of splits of a folder, each its manifest's or its one file's, if either is there.

    Raises: OSError, StoreError when that can't be said.
    """
    found = list[str]()
    for name in names:
        places = (inside(folder, f"{name}{suffix}") for suffix in (".json", ".h5"))
        found += [place for place in places if is_there(place)][:1]
    return found


def fetch_split(
    place: str,
    folder: Path,
    *,
    digests: Sequence[str] = (),
    replace: bool = False,
    watch: Watch = lambda share: None,
) -> Fetched:
    """Copy the split at a place, NAME.h5 or NAME.json, to a folder, unless it is there already.

    Args:
        digests: which it may have, as fingerprint or as SHA-256 of the file; none takes any.
        replace: whether another split of that name may be replaced.
        watch: is told which share is copied.

    Raises: OSError naming the place, StoreError; CacheError where the disk is too small, another split is in
        the way, or digests don't match: then nothing has the final name.
    """
    target = folder / place.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    fetch = _several if target.suffix == SUFFIX else _one
    other = target.with_suffix(".h5" if fetch is _several else SUFFIX)
    if other.exists() and not replace and fetch is _one:
        raise _in_the_way(other, place)
    fetched = fetch(place, target, digests, replace, watch)
    if fetch is _one or other.name not in {shard.file for shard in read_manifest(target)[0].shards}:
        other.unlink(missing_ok=True)
    return fetched


def _one(place: str, target: Path, digests: Sequence[str], replace: bool, watch: Watch) -> Fetched:
    contents, nbytes = held(target), size_of(place)
    if contents and is_same(place, contents):
        refuse_other(place, target, contents.fingerprint, digests)
        return Fetched(target, contents.fingerprint.hex(), nbytes, False)
    if target.exists() and not replace:
        raise _in_the_way(target, place)
    path = _copied(place, target, nbytes, _Counted(nbytes, watch))
    contents = checked(place, path)
    _refuse_and_delete(place, path, contents.fingerprint, digests)
    disk.rename(path, target)
    return Fetched(target, contents.fingerprint.hex(), nbytes, True)


def _several(place: str, target: Path, digests: Sequence[str], replace: bool, watch: Watch) -> Fetched:
    """The same of a manifest and its shards: it gets its name when all of them are there."""
    manifest, data = _manifest(place, target, digests)
    path, missing = unfinished(target), list[Shard]()
    for shard in manifest.shards:
        contents = held(target.with_name(shard.file))
        if contents is None or contents.fingerprint != shard.fingerprint:
            missing.append(shard)
    others = [target] if target.exists() and target.read_bytes() != data else []
    others += [file for shard in missing if (file := target.with_name(shard.file)).exists()]
    alone = target.with_suffix(".h5")
    others += [alone] if alone.exists() and alone.name not in {s.file for s in manifest.shards} else []
    if others and not replace:
        path.unlink()
        raise _in_the_way(others[0], place)
    index = manifest.index and target.with_name(manifest.index.file)
    indexed = manifest.index.nbytes if manifest.index and index and not index.exists() else 0
    counted = _Counted(sum(shard.nbytes for shard in missing) + indexed, watch)
    refuse_full(target.parent, counted.total)
    for shard in missing:
        _shard(place, target.with_name(shard.file), shard, counted)
    if index and indexed:
        disk.rename(_copied(beside(place, index.name), index, indexed, counted), index)
    try:
        ManyFiles(path, None).check_headers()
    except CacheError as error:
        path.unlink(missing_ok=True)
        raise CacheError(f"{place}: {error}") from error
    is_new = counted.total > 0 or not target.exists()
    disk.rename(path, target)
    nbytes = sum(shard.nbytes for shard in manifest.shards)
    return Fetched(target, xxhash.xxh3_128_hexdigest(data), nbytes, is_new)


def _manifest(place: str, target: Path, digests: Sequence[str]) -> tuple[Manifest, bytes]:
    """A manifest, under its unfinished name. Raises: CacheError, and then it is not there."""
    if (size := size_of(place)) > MAX_BYTES:
        raise CacheError(f"{place}: expected a manifest of at most {MAX_BYTES:,} bytes, found {size:,}")
    path, data = unfinished(target), whole(place)
    with disk.explained(path):
        path.write_bytes(data)
    _refuse_and_delete(place, path, xxhash.xxh3_128_digest(data), digests)
    try:
        return read_manifest(path)
    except CacheError as error:
        path.unlink()
        problem = str(error).removeprefix(f"{path}: ").rpartition("; ")[0]
        raise CacheError(f"{place}: {problem}; ask who published it") from error


def _shard(place: str, target: Path, shard: Shard, counted: "_Counted") -> None:
    here = beside(place, shard.file)
    if (size := size_of(here)) != shard.nbytes:
        raise CacheError(f"{here}: expected {shard.nbytes:,} bytes, as {place} says, found {size:,}")
    path = _copied(here, target, shard.nbytes, counted)
    if checked(here, path).fingerprint != shard.fingerprint:
        path.unlink()
        raise CacheError(f"{here}: another file than {place} lists; ask who published it")
    disk.rename(path, target)


def _copied(place: str, target: Path, nbytes: int, counted: "_Counted") -> Path:
    there = unfinished(target)
    refuse_full(target.parent, nbytes - (there.stat().st_size if there.exists() else 0))
    return copied(place, target, nbytes, counted)


def _refuse_and_delete(place: str, path: Path, fingerprint: bytes, digests: Sequence[str]) -> None:
    try:
        refuse_other(place, path, fingerprint, digests)
    except CacheError:
        path.unlink()
        raise


def _in_the_way(path: Path, place: str) -> CacheError:
    return CacheError(f"{path}: another cache than {place}; delete it, or name another folder")


class _Counted:
    """Bytes that are there, told as a share of all."""

    def __init__(self, total: int, watch: Watch) -> None:
        self.total, self._watch, self._done = total, watch, 0

    def __call__(self, nbytes: int) -> None:
        self._done += nbytes
        self._watch(self._done / max(self.total, 1))
