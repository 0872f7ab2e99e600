"""Read everything of a file but its features: header, digests, and whether they agree."""

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache.digests import header_digest, images_digest
from cache.disk import read_all
from cache.errors import CacheError
from cache.format import (
    CLASSES,
    DIGEST_BYTES,
    DIGESTS,
    HEADER_DATASETS,
    HEADER_DIGESTS,
    LABELS,
    PATHS,
    PROVENANCE,
    Layout,
)
from cache.hdf5_checks import locate
from cache.header import CacheHeader
from cache.identity import canonical
from cache.paths import Paths
from cache.scales import scales_of

PROVENANCE_FIELDS = {1: ("identity", "notes"), 2: ("identity", "notes", "scales")}
"""By version."""


@dataclass(frozen=True, eq=False)
class Contents:
    """A file's layout and header, the header's digests, and that of each block, (B, 16); zero where it isn't
    written yet."""

    layout: Layout
    header: CacheHeader
    header_digests: bytes
    digests: NDArray[np.uint8]

    @property
    def images(self) -> bytes:
        """The digest over the digests of all images; zeros where the file isn't complete yet."""
        return self.header_digests[DIGEST_BYTES:]

    @property
    def written(self) -> NDArray[np.bool_]:
        """Which blocks have a digest, (B,)."""
        return np.any(self.digests, axis=1)

    @property
    def fingerprint(self) -> bytes:
        """16 bytes that are another file's if any byte of its header, features or image digests differs."""
        return xxhash.xxh3_128_digest(self.header_digests + self.digests.tobytes())


def open_file(path: Path) -> int:
    """A file descriptor for reading. Raises: CacheError when it can't be opened or is no regular file."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a named pipe would keep us waiting
    except OSError as error:
        raise CacheError(f"{path}: can't be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        advice = "; name a split in it, such as train.h5 or train.json" if path.is_dir() else ""
        raise CacheError(f"{path}: expected a file, found a folder or a device{advice}")
    return fd


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The same, closed in the end."""
    fd = open_file(path)
    try:
        yield fd
    finally:
        os.close(fd)


def read_contents(fd: int, file: str) -> Contents:
    """Raises: CacheError when the file isn't a cache, is damaged outside its blocks, or is forbidden."""
    layout = locate(fd, file)
    try:
        parts = {name: _bytes(fd, layout, name) for name in HEADER_DATASETS}
        known = _bytes(fd, layout, HEADER_DIGESTS)
        digests = read_digests(fd, layout, DIGESTS)
    except (OSError, EOFError) as error:
        raise CacheError(f"{file}: can't be read: {error}") from error
    if header_digest(layout, parts) != known[:DIGEST_BYTES]:
        raise CacheError(
            f"{file}: damaged: labels, paths, classes and provenance don't match their digest; "
            "delete it and extract again"
        )
    try:
        return Contents(layout, decode_header(layout, parts), known, digests)
    except (CacheError, ValueError, RecursionError) as error:
        raise CacheError(f"{file}: no usable feature cache: {error}; delete it and extract again") from error


def read_digests(fd: int, layout: Layout, name: str) -> NDArray[np.uint8]:
    """(n, 16): `digests` or `image_digests`. Raises: OSError, EOFError."""
    extent = layout[name]
    return np.frombuffer(read_all(fd, extent.nbytes, extent.offset), np.uint8).reshape(extent.shape)


def read_published(fd: int, file: str) -> Contents:
    """Read a file that has its final name. Raises: CacheError as `read_contents`, or when not complete."""
    contents = read_contents(fd, file)
    size, end = os.fstat(fd).st_size, contents.layout.end
    if size != end:
        raise CacheError(
            f"{file}: damaged: expected {end:,} bytes, found {size:,}; delete it and extract again"
        )
    if not contents.written.all():
        raise CacheError(
            f"{file}: not complete: {contents.written.sum()} of {contents.layout.blocks} blocks have a digest"
            "; delete it and extract again"
        )
    try:
        found = images_digest(fd, contents.layout)
    except (OSError, EOFError) as error:
        raise CacheError(f"{file}: can't be read: {error}") from error
    if found != contents.images:
        raise CacheError(
            f"{file}: damaged: the digests of its images don't match the one over all of them; "
            "delete it and extract again"
        )
    return contents


def encode_header(header: CacheHeader, layout: Layout) -> dict[str, bytes]:
    """The header's datasets as they lie in the file."""
    return {
        LABELS: header.labels.tobytes(),
        PATHS: Paths.of(header.paths).data,
        CLASSES: _pack(header.classes, layout[CLASSES].item),
        PROVENANCE: header.provenance,
    }


def decode_header(layout: Layout, parts: dict[str, bytes]) -> CacheHeader:
    """Raises: CacheError, ValueError, RecursionError when the bytes make no header."""
    provenance = _parse(parts[PROVENANCE], layout.dtype.version)
    n, v, c, h, w = layout.shape
    return CacheHeader(
        shape=(n, v, c, h, w),
        dtype=layout.dtype.name,
        labels=np.frombuffer(parts[LABELS], f"<i{layout[LABELS].item}").reshape(layout[LABELS].shape),
        paths=Paths.stored(parts[PATHS]),
        classes=_unpack(parts[CLASSES], layout[CLASSES].item),
        identity=provenance["identity"],
        notes=provenance["notes"],
        scales=scales_of(provenance["scales"]) if "scales" in provenance else None,
    )


def _bytes(fd: int, layout: Layout, name: str) -> bytes:
    return bytes(read_all(fd, layout[name].nbytes, layout[name].offset))


def _parse(provenance: bytes, version: int) -> dict[str, Any]:
    value, names = json.loads(provenance), PROVENANCE_FIELDS[version]
    if not isinstance(value, dict) or value.keys() != {*names} or canonical(value) != provenance:
        raise ValueError(
            f"'provenance': expected canonical JSON with {' and '.join(names)}, found something else"
        )
    return value


def _pack(texts: Sequence[str], item: int) -> bytes:
    return b"".join(t.encode("utf-8").ljust(item, b"\0") for t in texts)


def _unpack(packed: bytes, item: int) -> list[str]:
    return [t.decode("utf-8") for t in np.frombuffer(packed, f"S{item}").tolist()]
