"""The manifests that a split had before: what was made from it then can still be looked up (FORMAT.md §7)."""

from pathlib import Path

import xxhash

from cache.splits import split_path
from cache.whole_files import write_whole

_INFIX = ".was-"


def keep_earlier(path: Path) -> Path:
    """Copy a manifest that is about to be replaced. Raises: OSError."""
    data = path.read_bytes()
    kept = path.with_name(f"{path.stem}{_INFIX}{xxhash.xxh3_128_hexdigest(data)[:16]}.json")
    write_whole(kept, data)
    return kept


def was(path: Path) -> bool:
    """Whether a manifest is one that was kept."""
    return _INFIX in path.stem


def earlier(path: Path) -> list[Path]:
    """The manifests that were kept of the split that `path`, NAME.json or NAME.h5, is."""
    return sorted(path.parent.glob(f"{path.stem}{_INFIX}*.json"))


def generations(folder: str | Path, name: str) -> list[Path]:
    """The split in a cache folder, and what it was before it grew: files that `FeatureCache` opens.

    Raises: CacheError as `split_path`.
    """
    now = split_path(folder, name)
    found = dict.fromkeys((now, now.with_suffix(".h5"), *earlier(now)))
    return [path for path in found if path.exists()]
