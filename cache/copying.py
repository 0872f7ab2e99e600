"""Copy one file of a published cache in pieces, go on where that was cut off, and check all its digests."""

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from cache import disk
from cache.contents import Contents
from cache.errors import CacheError
from cache.format import DIGESTS, HEADER_DIGESTS
from cache.one_file import OneFile
from cache.origins import NoPartsError, part, pieces, size_of

UNFINISHED = ".fetch"
"""Ends the name of a file that is on its way."""
Watch = Callable[[int], object]
"""Is told how many more bytes are there."""


def unfinished(target: Path) -> Path:
    """The name of a file while it is copied."""
    return target.with_name(target.name + UNFINISHED)


def copied(place: str, target: Path, nbytes: int, watch: Watch) -> Path:
    """The unfinished copy of a file with all of its bytes on the disk.

    Raises: OSError naming the place, StoreError; CacheError when the disk is full or the file too short.
    """
    path = unfinished(target)
    with disk.explained(path):
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        done = os.fstat(fd).st_size
        if done > nbytes:
            os.ftruncate(fd, done := 0)
        watch(done)
        try:
            _append(place, fd, path, done, nbytes, watch)
        except NoPartsError:  # the server can't go on
            os.ftruncate(fd, 0)
            watch(-done)
            _append(place, fd, path, 0, nbytes, watch)
        if (found := os.fstat(fd).st_size) != nbytes:
            raise CacheError(
                f"{place}: expected {nbytes:,} bytes, {found:,} came; run the same command again"
            )
        with disk.explained(path):
            disk.sync(fd)
    finally:
        os.close(fd)
    return path


def _append(place: str, fd: int, path: Path, done: int, nbytes: int, watch: Watch) -> None:
    for data in pieces(place, done, nbytes):
        with disk.explained(path):
            disk.write_all(fd, data, done)
        done += len(data)
        watch(len(data))


def checked(place: str, path: Path) -> Contents:
    """What a copied file holds, after all of its digests were found right; else it is deleted.

    Raises: CacheError.
    """
    try:
        file = OneFile(path, None)
        file.check(np.arange(file.blocks), lambda _: None)
    except CacheError as error:
        path.unlink(missing_ok=True)
        problem = str(error).removeprefix(f"{path}: ").partition("; ")[0]
        raise CacheError(
            f"{place}: what came doesn't match its own digests ({problem}) and was deleted; run the same "
            "command again, or ask who published it"
        ) from error
    return file.contents


def refuse_other(place: str, path: Path, fingerprint: bytes, digests: Sequence[str]) -> None:
    """Raises: CacheError when a file has none of the digests that were given, if any were."""
    if not digests or fingerprint.hex() in digests:
        return
    found = fingerprint.hex()
    if any(len(digest) == 64 for digest in digests):
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found in digests:
            return
    raise CacheError(f"{place}: expected the digest {' or '.join(digests)}, found {found}; it was not taken")


def held(path: Path) -> Contents | None:
    """What a file holds that is there already; None where there is none, or it is damaged."""
    try:
        return OneFile(path, None).contents
    except CacheError:
        return None


def is_same(place: str, contents: Contents | None) -> bool:
    """Whether the file at a place is the one that is held: it has the same digests where they lie in this."""
    if contents is None or size_of(place) != contents.layout.end:
        return False
    known = {HEADER_DIGESTS: contents.header_digests, DIGESTS: contents.digests.tobytes()}
    try:
        return all(
            part(place, contents.layout[name].offset, contents.layout[name].offset + len(data)) == data
            for name, data in known.items()
        )
    except NoPartsError:
        return False


def refuse_full(folder: Path, nbytes: int) -> None:
    """Raises: CacheError when a folder's disk has no room for so many bytes."""
    if nbytes > (free := shutil.disk_usage(folder).free):
        raise CacheError(
            f"{folder}: needs {nbytes / 1e6:,.0f} MB, the disk has {free / 1e6:,.0f} MB free; make room or "
            "name another folder"
        )
