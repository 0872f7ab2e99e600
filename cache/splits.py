"""Which file of a folder is a split: the one file, or the manifest (FORMAT.md §7)."""

from dataclasses import dataclass
from pathlib import Path

from cache.errors import CacheError
from cache.manifest import SUFFIX
from cache.manifest_checks import read_manifest

CACHE_SUFFIXES = (".h5", SUFFIX)
"""Of a cache in one file, and of the manifest of one in several."""


@dataclass(frozen=True)
class Listed:
    """What a manifest says of a split, whether its files are there or not."""

    key: str
    images_digest: str
    fingerprints: dict[str, str]
    """Of each file, by its name."""


def listed(path: str | Path) -> Listed:
    """What a manifest says. Raises: CacheError when it is no manifest."""
    manifest, _ = read_manifest(Path(path))
    fingerprints = {shard.file: shard.fingerprint.hex() for shard in manifest.shards}
    return Listed(manifest.key, manifest.images.hex(), fingerprints)


def listed_shards(path: str | Path) -> list[Path]:
    """The files that a manifest lists. Raises: CacheError when it is no manifest."""
    return [Path(path).with_name(shard.file) for shard in read_manifest(Path(path))[0].shards]


def missing_shards(path: str | Path) -> list[Path]:
    """Those of them that aren't there. Raises: CacheError as `listed_shards`."""
    return [file for file in listed_shards(path) if not file.exists()]


def split_path(folder: str | Path, name: str) -> Path:
    """The split in a cache folder: FOLDER/NAME.json, else FOLDER/NAME.h5, whether that is there or not.

    Raises: CacheError where both are there and the first doesn't list the second, or is no manifest.
    """
    manifest, file = (Path(folder) / f"{name}{suffix}" for suffix in (".json", ".h5"))
    if not manifest.exists():
        return file
    if file.exists() and file.name not in {shard.file for shard in read_manifest(manifest)[0].shards}:
        raise CacheError(
            f"{manifest} and {file.name}: two caches of one split, since the one doesn't list the other; "
            "move one of them away"
        )
    return manifest
