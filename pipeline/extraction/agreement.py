"""What the workers that make the shards of a split must agree on, before one of them computes.

    CACHE/train.json.part    the number of shards, what they are made from, and with which versions

The first worker writes it, each other one compares; with the manifest it goes away. Workers that are started
one by one, on machines that somebody set up one by one, would else find out when hours of work don't fit.
"""

import json
from pathlib import Path
from typing import Any

from cache import CacheHeader
from cache.identity import canonical, differences, with_flags
from cache.whole_files import clear_unfinished
from pipeline.errors import CacheError, StaleCacheError
from pipeline.extraction.begun import begun
from pipeline.files import written_first

FORMAT = "ten-crop-agreement/1"
VERSIONS = "made_with"


def agreement_path(manifest: Path) -> Path:
    """Where the agreement about a split's shards stands."""
    return manifest.with_name(manifest.name + ".part")


def agree(manifest: Path, header: CacheHeader, shards: int) -> None:
    """Say what a split's shards are made from, or compare with what another worker said.

    header: the whole split's; its notes say by which versions.

    Raises: StaleCacheError naming what differs, CacheError naming a version that does.
    """
    path = agreement_path(manifest)
    versions = {name: text for name, text in header.notes[VERSIONS].items() if name != "device"}
    ours = {"format": FORMAT, "shards": shards, "identity": header.full_identity, VERSIONS: versions}
    found = _parsed(path, written_first(path, canonical(ours)))
    if fields := differences(found["identity"], ours["identity"]):
        text = "; ".join(with_flags(fields, header.flags)[:8])
        raise StaleCacheError(
            f"{path}: other workers make it from something else: {text}; give all the same flags and images, "
            f"or delete {manifest.stem}-*.h5* and {path.name}"
        )
    for package in sorted(versions):
        if (theirs := found[VERSIONS].get(package)) != versions[package]:
            raise CacheError(
                f"{path}: begun with {package} {theirs}, this worker has {versions[package]}; install the "
                f"same everywhere, or delete {manifest.stem}-*.h5* and {path.name} to begin again"
            )


def forget(manifest: Path) -> None:
    """Remove an agreement, once the manifest says the same."""
    path = agreement_path(manifest)
    clear_unfinished(path)
    path.unlink(missing_ok=True)


def forget_unused(manifest: Path) -> None:
    """Take back an agreement by which nothing was made. Only for whoever starts all workers."""
    if not begun(manifest):
        agreement_path(manifest).unlink(missing_ok=True)


def _parsed(path: Path, data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
        if (
            found["format"] == FORMAT
            and isinstance(found["identity"], dict)
            and isinstance(found[VERSIONS], dict)
        ):
            return found
    except (ValueError, TypeError, KeyError):
        pass
    raise CacheError(f"{path}: can't be read; delete it and run the same command again")
