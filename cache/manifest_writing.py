"""Write a manifest over published shards (FORMAT.md §7)."""

from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from cache import disk
from cache.admitting import Found, ImagesDigest, look_at
from cache.earlier import earlier, keep_earlier
from cache.errors import CacheError
from cache.header import CacheHeader
from cache.manifest import IndexArray, Manifest, RowIndex
from cache.manifest_checks import read_manifest
from cache.paths import Paths
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
    path, found, images = Path(path), list[Found](), ImagesDigest(keeps=rows is not None)
    for number, shard in enumerate(shards):
        begin = found[-1].shard.rows.stop if found else 0
        found.append(look_at(path, Path(shard), header, number, varying, begin, images))
    if not found:
        raise CacheError(f"{path}: a manifest needs at least one shard, found none")
    places = _checked_rows(path, header, found[-1].shard.rows.stop, rows)
    arrays = _index_arrays(header, found, places)
    manifest = Manifest(
        shape=header.shape,
        dtype=header.dtype,
        classes=tuple(header.classes),
        identity=header.identity,
        notes=header.notes,
        varying=tuple(sorted(frozenset[str]().union(*(one.varies for one in found)))),
        multi_label=header.multi_label,
        paths_sha256=Paths.of(header.paths).sha256,
        key=header.key,
        images=images.digest(places),
        shards=tuple(one.shard for one in found),
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
    header: CacheHeader, found: list[Found], places: NDArray[np.int64] | None
) -> dict[str, bytes]:
    """What the shards don't say themselves, in the order of the file."""
    paths = Paths.of(header.paths)
    if places is not None:
        return {"rows": places.tobytes(), "labels": header.labels.tobytes(), "paths": paths.data}
    arrays = dict[str, bytes]()
    if any(one.other_labels for one in found):
        arrays["labels"] = header.labels.tobytes()
    if any(one.other_paths for one in found):
        arrays["paths"] = paths.data
    return arrays


def _described(name: str, arrays: dict[str, bytes]) -> RowIndex:
    at, described = 0, dict[str, IndexArray | None](rows=None, labels=None, paths=None)
    for kind, data in arrays.items():
        described[kind] = IndexArray(at, len(data), xxhash.xxh3_128_digest(data))
        at += len(data)
    digests = b"".join(array.digest for array in described.values() if array)
    return RowIndex(f"{name}.index-{xxhash.xxh3_128_hexdigest(digests)[:16]}", **described)


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
