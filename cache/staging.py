"""Copies of caches on a local disk: of those in stores, which can't be mapped, and of those on slow disks.

    folder = stage("s3://bucket/photos", Path("/scratch"), ["train"])   # /scratch/photos-1f3a9c20

Each cache has a folder of its own there, which processes share: one copies, the others wait. A copy that is
still what the origin has is used as it is; one of an older state is replaced.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cache import disk
from cache.errors import CacheError, UserError
from cache.fetching import fetch_split, places_in
from cache.origins import size_of
from cache.remote import is_url, plain_url
from cache.telling import tell, watching

LOCK = "stage.lock"
_NAME = 60  # characters of the origin's name, so that the folder's is none too long


def stage(origin: str, folder: Path, names: Sequence[str], *, optional: Sequence[str] = ()) -> Path:
    """Have splits of a cache on a local disk; gives the folder that holds them.

    Args:
        origin: folder of the cache, or its URL.
        folder: where copies of all caches lie.
        names: of the splits, "train" and "test"; `optional` may be missing.

    Raises: CacheError when a split isn't there or can't be copied; StoreError.
    """
    origin = plain_url(origin).rstrip("/") if is_url(origin) else os.path.realpath(origin)
    name = re.sub(r"[^\w.]+", "-", origin.rpartition("/")[2])[:_NAME]
    known = f"{name}-{hashlib.sha256(origin.encode()).hexdigest()[:8]}"
    with in_one_line(origin):
        places = [*_required(origin, names), *places_in(origin, optional)]
    target = folder / known
    with disk.explained(target):
        target.mkdir(parents=True, exist_ok=True)
    with locked(target), in_one_line(origin):
        for place in places:
            tell_of(place, target)
            with watching(place, "copied") as watch:
                fetch_split(place, target, replace=True, watch=watch)
    return target


def tell_of(place: str, target: Path) -> None:
    """Say how many bytes will be copied, unless something of that name is there."""
    if not (target / place.rpartition("/")[2]).exists():
        kind = (
            "it and the files that it lists" if place.endswith(".json") else f"{size_of(place) / 1e6:,.1f} MB"
        )
        tell(f"{place}: copying {kind} to {target}")


def _required(origin: str, names: Sequence[str]) -> list[str]:
    found = places_in(origin, names)
    if len(found) < len(names):
        expected = ", ".join(f"{name}.h5 or {name}.json" for name in names)
        raise CacheError(f"{origin}: expected a cache with {expected}, found {len(found)} of {len(names)}")
    return found


@contextmanager
def in_one_line(origin: str) -> Iterator[None]:
    """Raises: CacheError for an OSError inside, which names its file."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:
        raise CacheError(f"{error.filename or origin}: can't be read: {error.strerror or error}") from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Alone in a folder while inside: waits for the process that is there before. Raises: CacheError."""
    with disk.explained(folder / LOCK):
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        got = disk.try_lock(fd)
        if got is False:
            tell(f"{folder}: waiting for another process that copies to it")
            fcntl.flock(fd, fcntl.LOCK_EX)
        elif got is None:
            tell(f"{folder}: this file system has no locks; don't copy to it twice at a time")
        yield
    finally:
        os.close(fd)
