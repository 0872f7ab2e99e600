"""Write a manifest over published shards (FORMAT.md §7)."""

import hashlib
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache import disk
from cache.contents import Contents, opened, read_digests, read_published
from cache.earlier import earlier, keep_earlier
from cache.errors import CacheError
from cache.format import HEADER_DIGESTS, IMAGE_DIGESTS
from cache.header import CacheHeader
from cache.identity import differences
from cache.manifest import IndexArray, Manifest, RowIndex, Shard
from cache.manifest_checks import plain_name, read_manifest
from cache.paths import Paths
from cache.scales import stored_as
from cache.whole_files import write_whole


def write_manifest(
    path: str | Path,
    header: CacheHeader,
    shards: Sequence[str | Path],
    rows: NDArray[np.integer] | None = None,
    varying: Collection[str] = (),
) -> Path:
    """Make a split of published files in one folder; all but the features is as in `header`.

    path: the manifest's, `NAME.json` in the folder of the shards. header: the whole split's. rows: (N,), for
    each row of the split its place among the rows of all shards, one behind the other; None: all of these
    rows. varying: fields of the identity in which a shard may differ from the split, for they say which
    images it holds. A manifest that is there is replaced, and kept as an earlier one if it was of other
    images; the same inputs give the same bytes, whoever writes them.

    Raises: CacheError naming the shard that is missing, damaged or made from something else, or when the rows
    aren't those of the header; nothing is changed then.
    """
    path = Path(path)
    found = [_look(path, Path(shard), header, number, varying) for number, shard in enumerate(shards)]
    if not found:
        raise CacheError(f"{path}: a manifest needs at least one shard, found none")
    places = _checked_rows(path, header, sum(one.contents.layout.shape[0] for one in found), rows)
    image_digests = np.concatenate([one.image_digests for one in found])
    arrays = _index_arrays(header, found, places)
    manifest = Manifest(
        shape=header.shape,
        dtype=header.dtype,
        classes=tuple(header.classes),
        identity=header.identity,
        notes=header.notes,
        varying=tuple(sorted(name for name in set(varying) if _varies(name, header, found))),
        multi_label=header.multi_label,
        paths_sha256=Paths.of(header.paths).sha256,
        key=header.key,
        images=_sha256(image_digests if places is None else image_digests[places]),
        shards=tuple(_listed(found)),
        index=_described(path.stem, arrays) if arrays else None,
        scales=header.scales,
    )
    with disk.explained(path):
        before = _manifest_at(path)
        if before and (before.key, before.images) != (manifest.key, manifest.images):
            keep_earlier(path)
        if manifest.index:
            write_whole(path.with_name(manifest.index.file), b"".join(arrays.values()))
        write_whole(path, manifest.encode())
        if before and before.index:
            _clear_index(path, before.index.file)
    return path


class _Found(NamedTuple):
    """A published file."""

    path: Path
    contents: Contents
    image_digests: NDArray[np.uint8]


def _varies(name: str, header: CacheHeader, found: list[_Found]) -> bool:
    return any(
        differences(one.contents.header.identity.get(name), header.identity.get(name)) for one in found
    )


def _look(path: Path, shard: Path, header: CacheHeader, number: int, varying: Collection[str]) -> _Found:
    """Open a shard. Raises: CacheError when it can't be one of the manifest."""
    plain_name(f"{path}: shard {number}", shard.name)
    if shard.parent.resolve() != path.parent.resolve() or shard.is_symlink():
        raise CacheError(f"{shard}: expected a file, no link, in the folder of its manifest, {path.parent}")
    if shard.suffix != ".h5":
        raise CacheError(f"{shard}: expected a name that ends in .h5")
    with opened(shard) as fd:
        contents = read_published(fd, str(shard))
        image_digests = read_digests(fd, contents.layout, IMAGE_DIGESTS)
    own = contents.header
    kept = (own.identity.keys() | header.identity.keys()) - set(varying)
    was, wanted = ({n: h.identity[n] for n in kept if n in h.identity} for h in (own, header))
    fields = differences(was, wanted)
    fields += differences(
        {"maps": list(own.shape[1:])} | stored_as(own.dtype, own.scales),
        {"maps": list(header.shape[1:])} | stored_as(header.dtype, header.scales),
    )
    if fields:
        raise CacheError(
            f"{shard}: no shard of this cache: made from something else: {'; '.join(fields[:8])}; delete it "
            "or choose another folder"
        )
    return _Found(shard, contents, image_digests)


def _checked_rows(
    path: Path, header: CacheHeader, count: int, rows: NDArray[np.integer] | None
) -> NDArray[np.int64] | None:
    """The places, or None where they are all rows in order."""
    if rows is None:
        if count != header.shape[0]:
            raise CacheError(f"{path}: expected {header.shape[0]:,} rows in its shards, found {count:,}")
        return None
    places = np.asarray(rows)
    if places.dtype.kind not in "iu" or places.shape != (header.shape[0],):
        raise CacheError(
            f"{path}: rows: expected {header.shape[0]:,} integers, found {places.dtype} of shape "
            f"{places.shape}"
        )
    if places.min() < 0 or places.max() >= count:
        raise CacheError(f"{path}: rows: expected places from 0 to {count - 1:,}")
    places = places.astype("<i8")
    return None if count == len(places) and np.array_equal(places, np.arange(count)) else places


def _index_arrays(
    header: CacheHeader, found: list[_Found], places: NDArray[np.int64] | None
) -> dict[str, bytes]:
    """What the shards don't say themselves, in the order of the file."""
    paths = Paths.of(header.paths)
    if places is not None:
        return {"rows": places.tobytes(), "labels": header.labels.tobytes(), "paths": paths.data}
    headers, arrays = [one.contents.header for one in found], dict[str, bytes]()
    if (
        any(tuple(own.classes) != tuple(header.classes) for own in headers)
        or any(own.multi_label != header.multi_label for own in headers)
        or not np.array_equal(np.concatenate([own.labels for own in headers]), header.labels)
    ):
        arrays["labels"] = header.labels.tobytes()
    if b"".join(Paths.of(own.paths).data for own in headers) != paths.data:
        arrays["paths"] = paths.data
    return arrays


def _listed(found: list[_Found]) -> list[Shard]:
    shards, end = list[Shard](), 0
    for path, contents, _ in found:
        begin, end = end, end + contents.layout.shape[0]
        shards.append(
            Shard(
                file=path.name,
                rows=range(begin, end),
                nbytes=contents.layout.end,
                key=contents.header.key,
                header=contents.header_digests,
                header_at=contents.layout[HEADER_DIGESTS].offset,
                fingerprint=contents.fingerprint,
            )
        )
    return shards


def _described(name: str, arrays: dict[str, bytes]) -> RowIndex:
    at, described = 0, dict[str, IndexArray | None](rows=None, labels=None, paths=None)
    for kind, data in arrays.items():
        described[kind] = IndexArray(at, len(data), xxhash.xxh3_128_digest(data))
        at += len(data)
    digests = b"".join(array.digest for array in described.values() if array)
    return RowIndex(f"{name}.index-{xxhash.xxh3_128_hexdigest(digests)[:16]}", **described)


def _sha256(image_digests: NDArray[np.uint8]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(image_digests).data).digest()


def _manifest_at(path: Path) -> Manifest | None:
    """The manifest that is there, if it can be read."""
    with suppress(CacheError):
        return read_manifest(path)[0] if path.exists() else None
    return None


def _clear_index(path: Path, name: str) -> None:
    """Remove an index that neither the manifest nor an earlier one lists any more."""
    listing = [found.index for each in (path, *earlier(path)) if (found := _manifest_at(each))]
    if name not in {index.file for index in listing if index}:
        path.with_name(name).unlink(missing_ok=True)
