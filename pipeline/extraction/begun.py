"""Into how many files a split was divided, by the names of those that are there."""

import os
import re
from contextlib import suppress
from pathlib import Path

from cache import listed_shards, missing_shards, shard_paths
from pipeline.errors import CacheError

MARK_BYTES = 128
"""The size of a file that is locked, and not laid out yet."""


def begun(manifest: Path) -> set[int]:
    """The numbers of files of which some are there, made or being made; 1 for a single one that is begun."""
    found = set[int]()
    if not manifest.parent.is_dir():
        return found
    pattern = re.compile(re.escape(manifest.stem) + r"-\d{5,}-of-(\d{5,})\.h5(\.part)?")
    for name in os.listdir(manifest.parent):
        if (shard := pattern.fullmatch(name)) and _holds_something(manifest.with_name(name)):
            found.add(int(shard[1]))
    if _holds_something(manifest.with_suffix(".h5.part")):
        found.add(1)
    return found


def shards_of(manifest: Path, wanted: int | None, otherwise: int) -> int:
    """How many shards a split is to have: as many as are wanted, or as it was begun with, or `otherwise`.

    Raises: CacheError when it was begun with another number than is wanted, or with two.
    """
    there = sorted(begun(manifest))
    if not there or there == [wanted]:
        return wanted or otherwise
    if len(there) == 1 and wanted is None:
        return there[0]
    names = " and ".join(_names(manifest, count) for count in there)
    if len(there) > 1:
        raise CacheError(f"{names}: the same split in files of two numbers; delete those of one")
    advice = f"give --shards {there[0]}" if there[0] > 1 else "leave --shards, --shard and --workers out"
    raise CacheError(
        f"{names}: begun in {there[0]} file{'s' * (there[0] > 1)}, expected {wanted}; {advice}, or delete "
        "what was begun"
    )


def files_to_mend(path: Path) -> int:
    """How many files a manifest lists of which some are gone, such as damaged ones that somebody deleted; 0
    where all are there, or there is no manifest, or it lists files that were made at different times.

    Raises: CacheError when it is no manifest.
    """
    if path.suffix != ".json" or not path.exists() or not missing_shards(path):
        return 0
    listed = listed_shards(path)
    return len(listed) if listed == shard_paths(path, len(listed)) else 0


def _names(manifest: Path, count: int) -> str:
    parts = f"{manifest.stem}-*-of-{count:05}.h5*" if count > 1 else f"{manifest.stem}.h5.part"
    return str(manifest.with_name(parts))


def _holds_something(path: Path) -> bool:
    """Whether a file of a cache is there, and is more than the mark of a process that holds it."""
    with suppress(OSError):
        return path.stat().st_size > MARK_BYTES
    return False
