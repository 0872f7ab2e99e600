"""A split that can be mapped: where it lies, or, by --stage, its copy on a local disk.

A cache is read at the speed of memory because it is mapped. One in a store can't be, and one on a slow disk
shouldn't be: both are copied once, checked by their digests, and used by all processes from then on.
"""

from collections.abc import Sequence
from pathlib import Path

from cache import CACHE_SUFFIXES, CacheError, split_path, stage
from cache.remote import is_url
from pipeline.runs.find_cache import TEST, TRAIN, find_cache
from pipeline.runs.layout import read_config


def local_split(cache: str, stage_dir: str | None, name: str, optional: Sequence[str] = ()) -> Path:
    """The file of a split of a cache, on a disk, whether it is there or not.

    Args:
        cache: its folder, or a split's file, of which `name` is then no matter; a URL of either with --stage.
        stage_dir: folder for copies; None where the cache lies on this machine's own disk.
        name: of the split, "train" or "test"; `optional` ones are copied as well, where they are there.

    Raises: CacheError when the cache lies in a store and there is no folder for copies, or it can't be
        copied; StoreError.
    """
    folder, is_file = cache.rstrip("/"), cache.endswith(CACHE_SUFFIXES)
    if is_file:
        folder, name = folder.rpartition("/")[0] or ".", Path(folder).stem
    if stage_dir:
        return split_path(stage(folder, Path(stage_dir), [name], optional=optional), name)
    if is_url(cache):
        raise CacheError(
            f"--cache: expected a folder on a disk, found {cache}: a cache in a store can't be mapped; add "
            "--stage DIR, a folder with room for a copy, or fetch it by python -m cache fetch"
        )
    return Path(cache) if is_file else split_path(folder, name)


def local_folder(run_dir: Path, given: str | None, stage_dir: str | None) -> str | None:
    """The folder on a disk of the cache to score a run on: the given one, or that of its training; or, with
    --stage, the copy of either. None where it has to be looked for.

    Raises: as `local_split`; RunError when config.json can't be read.
    """
    origin = given
    if not given and (stage_dir or find_cache(run_dir).folder is None):
        recorded = str(read_config(run_dir, "train").get("cache_path"))
        found = find_cache(run_dir).folder
        origin = recorded if is_url(recorded) else found and str(found)
    if not origin or not (stage_dir or is_url(origin)):
        return given
    return str(local_split(origin, stage_dir, TEST, optional=(TRAIN,)).parent)
