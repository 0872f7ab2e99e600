"""New labels for the features of a cache that is there (FORMAT.md §3)."""

import dataclasses
from contextlib import suppress
from pathlib import Path

from cache import disk
from cache.contents import opened, read_published
from cache.digests import check_blocks
from cache.errors import CacheError
from cache.header import CacheHeader, refuse_if_stale
from cache.manifest import SUFFIX
from cache.manifest_checks import read_manifest
from cache.manifest_writing import write_manifest
from cache.many_files import ManyFiles
from cache.partial import Part, part_path


def relabel(path: str | Path, header: CacheHeader) -> Path:
    """Give a complete cache the labels and classes of `header`, keeping its features and notes.

    The features are copied into a new file, which replaces the old one; whoever has that mapped keeps it. Of
    several files only the manifest (.json) is replaced. A file that another split's manifest lists stays, for
    maps of that are in it, and gets a manifest of its own.

    Raises: StaleCacheError when `header` has another identity, CacheError when there is no cache or it is
    damaged or in use.
    """
    path = Path(path)
    if path.suffix == SUFFIX:
        return _relabel_manifest(path, header)
    if _is_listed(path):
        return _add_manifest(path, header)
    with disk.explained(path), opened(path) as fd:
        part = Part.acquire(part_path(path))
        try:
            found = read_published(fd, str(path))
            refuse_if_stale(str(path), found.header, header)
            new = part.lay_out(relabelled(found.header, header), source=(fd, found))
            check_blocks(fd, found.layout, found.digests, (~new.written).nonzero()[0].tolist(), str(path))
            part.publish(path, new.layout)
        finally:
            part.close()
    return path


def _relabel_manifest(path: Path, header: CacheHeader) -> Path:
    store = ManyFiles(path, None)
    found = store.whole_header()
    refuse_if_stale(str(path), found, header)
    shards = [file.path for file in store.files]
    return write_manifest(path, relabelled(found, header), shards, store.index.rows)


def _is_listed(path: Path) -> bool:
    """Whether a manifest in its folder lists a file."""
    for manifest in path.parent.glob(f"*{SUFFIX}"):
        with suppress(CacheError):
            if path.name in {shard.file for shard in read_manifest(manifest)[0].shards}:
                return True
    return False


def _add_manifest(path: Path, header: CacheHeader) -> Path:
    with opened(path) as fd:
        found = read_published(fd, str(path)).header
    refuse_if_stale(str(path), found, header)
    return write_manifest(path.with_suffix(SUFFIX), relabelled(found, header), [path])


def relabelled(old: CacheHeader, new: CacheHeader) -> CacheHeader:
    """Combine the new labels with the old notes, which are about features that stay."""
    return dataclasses.replace(new, notes=old.notes)
