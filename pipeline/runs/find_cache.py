"""Where the cache of a run is now: it is known by its key and the contents of its images, not by its place.

Since training, the run or the cache may have been moved or renamed, or both together, and the working
directory may be another. Looked at are, in this order, the folder that --cache names; where the cache was, as
seen from the working directory, the root and the run's folder; then the folders beside these and beside the
run. A split that has grown since is still known by what it was.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from cache import CACHE_SUFFIXES, CacheError, FeatureCache, generations
from cache.remote import is_url
from pipeline.runs.layout import CONFIG, LEADERBOARD, read_config

TRAIN, TEST = "train", "test"


def places_of(cache: str, run_dir: Path) -> dict[str, str]:
    """What config.json says of a cache's place, besides `cache`: its absolute path, and that from the run."""
    if is_url(cache):
        return {"cache_path": cache}
    place = os.path.realpath(cache)
    return {"cache_path": place, "cache_from_run": os.path.relpath(place, os.path.realpath(run_dir))}


class Search(NamedTuple):
    """What was found of a run's cache."""

    training: FeatureCache | None
    """The run's own training split, if it is there."""
    folder: Path | None
    """The cache's: that of `training`, else one that holds a test split alone, perhaps the run's."""
    looked: tuple[str, ...]
    """Places that don't hold it, and why not; empty if it was found."""


def find_cache(run_dir: Path, given: str | None = None) -> Search:
    """Look for the cache that a run was trained on. Raises: RunError when config.json can't be read."""
    return find_described(read_config(run_dir, "train"), run_dir, given)


def find_described(described: Mapping[str, Any], run_dir: Path, given: str | None = None) -> Search:
    """Look for the cache that config.json describes so, by its key and images, from a run's folder on."""
    looked: list[str] = []
    alone, direct = None, list(_recorded(run_dir, described, given))
    for place in direct:
        found, problem = _open(place, described)
        if found:
            return Search(found, place, ())
        if not _holds(place, TRAIN) and _holds(place, TEST):
            alone = alone or place
        looked.append(f"{place} ({problem})")
    for around in _around(run_dir, direct):
        for place in _folders(around):
            if found := _open(place, described)[0]:
                return Search(found, place, ())
        looked.append(f"the folders in {around}")
    return Search(None, alone, tuple(looked))


def _recorded(run_dir: Path, described: Mapping[str, Any], given: str | None) -> Iterator[Path]:
    """The places that somebody named, each once."""
    seen, relative = set(), described.get("cache_from_run")
    from_run = os.path.normpath(run_dir / relative) if _is_path(relative) else None
    for name in (given, described.get("cache"), described.get("cache_path"), from_run):
        if _is_path(name) and (real := os.path.realpath(name)) not in seen:
            seen.add(real)
            yield Path(name)


def _is_path(name: object) -> TypeGuard[str]:
    """Whether this may be the path of a file: no URL, and characters that paths can have."""
    if not isinstance(name, str) or is_url(name) or "\0" in name:
        return False
    try:
        return bool(os.fsencode(name))
    except UnicodeEncodeError:
        return False


def _around(run_dir: Path, direct: list[Path]) -> list[Path]:
    """The folders whose folders are looked at: that of the run or the sweep, and those of the places."""
    top = Path(os.path.realpath(run_dir))
    while top != top.parent and any((top.parent / name).exists() for name in (LEADERBOARD, CONFIG)):
        top = top.parent
    folders = [top.parent, *(Path(os.path.realpath(place)).parent for place in direct)]
    return list(dict.fromkeys(folder for folder in folders if folder.is_dir()))


def _folders(around: Path) -> list[Path]:
    """The folders in one that hold a finished training cache, in the order of their names."""
    try:
        return sorted(
            {path.parent for suffix in CACHE_SUFFIXES for path in around.glob(f"*/{TRAIN}{suffix}")}
        )
    except OSError:
        return []


def _holds(place: Path, split: str) -> bool:
    return any((place / f"{split}{suffix}").exists() for suffix in CACHE_SUFFIXES)


def _open(place: Path, described: Mapping[str, Any]) -> tuple[FeatureCache | None, str]:
    """The training split in a folder if it is the run's, or was before it grew, or why it isn't."""
    path, problem = place / f"{TRAIN}.h5", ""
    try:
        several = generations(place, TRAIN)
    except (CacheError, OSError) as error:
        return None, str(error)
    for path in several:
        try:
            found = FeatureCache(path)
        except (CacheError, OSError) as error:
            problem = problem or str(error).removeprefix(f"{path}: ")
            continue
        if found.key != described.get("cache_key"):
            problem = problem or f"its {path.name} has another key, {found.key[:12]}"
        elif found.images_digest != described.get("cache_images"):
            problem = problem or f"its {path.name} was made from other images"
        else:
            return found, ""
    return None, problem or f"no {path.name}"
