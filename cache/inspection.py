"""What `python -m cache info` and `verify` say of a cache, and which caches a folder holds."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xxhash import xxh3_128_hexdigest

from cache.contents import opened, read_contents
from cache.earlier import was
from cache.errors import CacheError
from cache.identity import canonical
from cache.manifest import SUFFIX
from cache.manifest_checks import is_manifest, read_manifest
from cache.reader import FeatureCache
from cache.scales import Scales
from cache.telling import watching


def verify(path: Path) -> str:
    """Check a cache; gives a line, and shows how far it is until then. Raises: CacheError."""
    start, cache = time.perf_counter(), FeatureCache(path)
    with watching(str(path), "checked") as watch:
        cache.verify(watch=lambda checked: watch(checked / cache.blocks))
    seconds, size = time.perf_counter() - start, sum(file.stat().st_size for file in cache.shards)
    kind = f"{len(cache.shards):,} files, " if path.suffix == SUFFIX else ""
    rate = f"{size / 1e9 / seconds:.1f} GB/s"
    return f"{path}: good ({kind}{size / 1e6:,.1f} MB in {cache.blocks:,} blocks, {rate})"


def info(path: Path) -> str:
    """What a cache, or the unfinished part of one, holds. Raises: CacheError."""
    return _of_manifest(path) if path.suffix == SUFFIX else _of_file(path)


def caches_in(path: Path) -> list[Path]:
    """The caches of a folder, files that aren't shards among them; or the one file. Raises: CacheError.

    Files that a split beside them listed before it grew, or was divided anew, are no caches of their own.
    """
    if not path.is_dir():
        return [path]
    manifests = [file for file in path.glob(f"*{SUFFIX}") if is_manifest(file) and not was(file)]
    shards = {shard.file for manifest in manifests for shard in read_manifest(manifest)[0].shards}
    names = "|".join(re.escape(manifest.stem) for manifest in manifests)
    left = re.compile(rf"({names})-([0-9a-f]{{12}}|\d{{5,}}-of-\d{{5,}})\.h5")
    alone = [file for file in path.glob("*.h5") if file.name not in shards and not left.fullmatch(file.name)]
    if not (files := sorted([*manifests, *alone])):
        parts = ", ".join(part.name for part in sorted(path.glob("*.h5.part")))
        raise CacheError(
            f"{path}: no .h5 file in this folder" + (f", but {parts}, not complete yet" if parts else "")
        )
    return files


def _of_file(path: Path) -> str:
    with opened(path) as fd:
        contents = read_contents(fd, str(path))
    header, layout = contents.header, contents.layout
    per_image = f"multi-label, {(header.labels == 1).sum() / len(header.labels):.1f} labels per image, "
    lines = [
        _first(path, header.shape),
        f"  dtype: {_dtype(header.dtype, header.scales)}, {layout.end / 1e6:,.1f} MB",
        f"  blocks: {contents.written.sum():,} of {layout.blocks:,} written",
        _classes(header.classes, per_image if header.multi_label else ""),
        f"  key: {header.key}",
    ]
    if any(contents.images):  # published
        lines += [f"  images: {contents.images.hex()}", f"  fingerprint: {contents.fingerprint.hex()}"]
    return "\n".join([*lines, *_facts(header.identity, header.notes)])


def _of_manifest(path: Path) -> str:
    manifest, data = read_manifest(path)
    size, index = sum(shard.nbytes for shard in manifest.shards), list[str]()
    if manifest.index:
        listed = f"{manifest.shape[0]:,} of their {manifest.places:,}" if manifest.index.rows else "all"
        index = [f"  rows: {listed}, by {manifest.index.file}"]
    lines = [
        _first(path, manifest.shape),
        f"  dtype: {_dtype(manifest.dtype, manifest.scales)}, {size / 1e6:,.1f} MB",
        f"  shards: {len(manifest.shards):,}, {manifest.shards[0].file} to {manifest.shards[-1].file}",
        *index,
        _classes(manifest.classes, "multi-label, " if manifest.multi_label else ""),
        f"  key: {manifest.key}",
        f"  images: {manifest.images.hex()}",
        f"  fingerprint: {xxh3_128_hexdigest(data)}",
    ]
    return "\n".join([*lines, *_facts(manifest.identity, manifest.notes)])


def _first(path: Path, shape: tuple[int, ...]) -> str:
    images, views, *sizes = shape
    maps = "×".join(map(str, sizes))
    return f"{path}: {images:,} images, {views} view{'s' * (views > 1)}, maps of {maps}"


def _dtype(name: str, scales: Scales | None) -> str:
    steps = () if scales is None else scales[0]
    return f"{name} (scales from {min(steps):.3g} to {max(steps):.3g})" if len(steps) else name


def _classes(names: Any, kind: str) -> str:
    return f"  classes: {len(names)}, {kind}{canonical(names).decode()}"


def _facts(identity: dict[str, Any], notes: dict[str, Any]) -> list[str]:
    flat = _flat({"identity": identity, "notes": notes})
    return [f"  {name}: {canonical(value).decode()}" for name, value in flat]


def _flat(fields: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested fields as dotted names."""
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
