"""Read a manifest, and refuse what FORMAT.md §7 forbids before any of its files is looked at."""

import json
import math
import os
from pathlib import Path
from typing import Any

from cache.contents import opened
from cache.disk import read_all
from cache.dtypes import DTYPES
from cache.errors import CacheError
from cache.format import DIGEST_BYTES, IMAGES_DIGEST_BYTES
from cache.header import checked_classes
from cache.identity import canonical
from cache.manifest import MANIFEST, IndexArray, Manifest, RowIndex, Shard, digest_of, key_of
from cache.manifest_fields import array, exactly, hexadecimal, plain_name, refuse, whole
from cache.scales import Scales, scales_of, scales_problem

MAX_BYTES = 256 << 20
MAX_VALUES = 1 << 23
"""Of JSON. As many as fit into the bytes would take gigabytes of memory, and minutes."""
MAX_SHARDS = 65_536
FIELDS = {"classes", "digest", "dtype", "format", "identity", "images", "index", "key", "labels", "notes"} | {
    "paths",
    "shape",
    "shards",
    "scales",
    "varying",
}
SHARD_FIELDS = {"file", "rows", "bytes", "key", "header", "header_at", "fingerprint"}
LABEL_ITEMS = {"int64": 8, "int8": 1}
_HEADER_HEX = 2 * (DIGEST_BYTES + IMAGES_DIGEST_BYTES)
_REMEDY = "delete it and run the same extraction again"


def read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """A manifest and the file's bytes. Raises: CacheError naming the file, and the shard or field."""
    with opened(path) as fd:
        size = os.fstat(fd).st_size
        if size > MAX_BYTES:
            raise CacheError(
                f"{path}: no usable manifest: expected at most {MAX_BYTES:,} bytes, found {size:,}; {_REMEDY}"
            )
        data = bytes(read_all(fd, size, 0))
    if (values := sum(map(data.count, (b"[", b"{", b",")))) > MAX_VALUES:
        raise CacheError(
            f"{path}: no usable manifest: expected at most {MAX_VALUES:,} values, found {values:,}; {_REMEDY}"
        )
    try:
        return _parsed(data), data
    except (CacheError, ValueError, RecursionError) as error:
        raise CacheError(f"{path}: no usable manifest: {error}; {_REMEDY}") from None


def is_manifest(path: Path) -> bool:
    """Whether a file of JSON is a manifest, of any version, good or not. Raises: CacheError."""
    with opened(path) as fd:
        start = min(os.fstat(fd).st_size, MAX_BYTES)
        return f'"format":"{MANIFEST.partition("/")[0]}/'.encode() in read_all(fd, start, 0)


def _parsed(data: bytes) -> Manifest:
    fields = _canonical(data)
    shape = tuple(whole("shape", n, 1) for n in array("shape", fields["shape"]))
    if len(shape) != 5:
        refuse("shape", "five sizes (N, V, C, H, W)", str(list(shape)))
    if fields["dtype"] not in [*DTYPES]:
        refuse("dtype", f"one of {', '.join(DTYPES)}", repr(fields["dtype"])[:60])
    if fields["labels"] not in [*LABEL_ITEMS]:
        refuse("labels", "'int64' or 'int8'", repr(fields["labels"])[:60])
    for name in ("identity", "notes"):
        if not isinstance(fields[name], dict):
            refuse(name, "an object", type(fields[name]).__name__)
    paths = hexadecimal("paths", fields["paths"], 64)
    scales = _scales(fields["scales"], fields["dtype"], shape[2])
    key = hexadecimal("key", fields["key"], 64)
    if key_of(shape, fields["dtype"], paths, fields["identity"], scales) != key:
        refuse("key", "that of its identity, shape, dtype, paths and scales", "another")
    shards = _shards(fields["shards"], math.prod(shape[1:]) * DTYPES[fields["dtype"]].raw.itemsize)
    classes = _classes(fields["classes"])
    index = _index(fields["index"], shape[0], len(classes), fields["labels"])
    if (index is None or index.rows is None) and (end := shards[-1].rows.stop) != shape[0]:
        refuse("shards", f"{shape[0]:,} rows in all", f"{end:,}: shards are missing or too many")
    return Manifest(
        shape=(shape[0], shape[1], shape[2], shape[3], shape[4]),
        dtype=fields["dtype"],
        classes=classes,
        identity=fields["identity"],
        notes=fields["notes"],
        varying=_varying(fields["varying"]),
        multi_label=fields["labels"] == "int8",
        paths_sha256=paths,
        key=key,
        images=bytes.fromhex(hexadecimal("images", fields["images"], 2 * IMAGES_DIGEST_BYTES)),
        shards=shards,
        index=index,
        scales=scales,
    )


def _canonical(data: bytes) -> dict[str, Any]:
    """The fields of a manifest that nobody has edited, whatever they hold. Raises: CacheError, ValueError."""
    fields = json.loads(data)
    if not isinstance(fields, dict) or "format" not in fields:
        refuse("the file", f"JSON of format {MANIFEST!r}", "other JSON")
    if fields["format"] != MANIFEST:
        refuse("format", repr(MANIFEST), repr(fields["format"])[:60])
    exactly("the manifest", fields, FIELDS)
    if canonical(fields) != data:
        refuse("the file", "canonical JSON", "another spelling of it")
    if digest_of(fields) != fields["digest"]:
        refuse("digest", "that of the other fields", "another: it is damaged or was edited")
    return fields


def _varying(given: Any) -> tuple[str, ...]:
    names = array("varying", given)
    if not all(isinstance(name, str) for name in names) or names != sorted(set(names)):
        refuse("varying", "names in ascending order, each once", repr(names)[:60])
    return tuple(names)


def _scales(given: Any, dtype: str, channels: int) -> Scales | None:
    """Raises: CacheError, ValueError when there are none where the dtype has some, or the other way round."""
    if given is None and dtype != "int8":
        return None
    if given is None or dtype != "int8":
        refuse("scales", f"{'an object' if dtype == 'int8' else 'null'} with {dtype}", repr(given)[:60])
    scales = scales_of(given)
    if problem := scales_problem(scales, channels):
        raise CacheError(f"scales: {problem}")
    return scales


def _shards(given: Any, row_bytes: int) -> tuple[Shard, ...]:
    if not 1 <= len(listed := array("shards", given)) <= MAX_SHARDS:
        refuse("shards", f"1 to {MAX_SHARDS:,}", f"{len(listed):,}")
    found, seen, end = list[Shard](), set[str](), 0
    for number, fields in enumerate(listed):
        exactly(f"shard {number}", fields, SHARD_FIELDS)
        file = plain_name(f"shard {number}", fields["file"])
        what = f"shard {file}"
        if not file.endswith(".h5"):
            refuse(what, "a name that ends in .h5", repr(file))
        if file in seen:
            refuse(what, "each file once", "it stands there twice")
        seen.add(file)
        rows = [whole(f"{what}: rows", n, 0) for n in array(f"{what}: rows", fields["rows"])]
        if len(rows) != 2 or rows[0] >= rows[1]:
            refuse(what, "rows from FIRST up to BEHIND", str(rows)[:60])
        if rows[0] != end:
            kind = "a gap" if rows[0] > end else "an overlap"
            refuse(what, f"rows from {end:,} on", f"rows from {rows[0]:,} on: {kind}")
        end, nbytes = rows[1], whole(f"{what}: bytes", fields["bytes"], 1)
        if nbytes < (least := len(range(*rows)) * row_bytes):
            refuse(what, f"{least:,} bytes or more, which its rows take", f"{nbytes:,}")
        found.append(
            Shard(
                file=file,
                rows=range(rows[0], rows[1]),
                nbytes=nbytes,
                key=hexadecimal(f"{what}: key", fields["key"], 64),
                header=bytes.fromhex(hexadecimal(f"{what}: header", fields["header"], _HEADER_HEX)),
                header_at=whole(f"{what}: header_at", fields["header_at"], 0),
                fingerprint=bytes.fromhex(hexadecimal(f"{what}: fingerprint", fields["fingerprint"], 32)),
            )
        )
    return tuple(found)


def _index(given: Any, rows: int, classes: int, labels: str) -> RowIndex | None:
    if given is None:
        return None
    exactly("index", given, {"file", "rows", "labels", "paths"})
    file, at = plain_name("index", given["file"]), 0
    sizes = {"rows": 8 * rows, "labels": LABEL_ITEMS[labels] * rows * (classes if labels == "int8" else 1)}
    arrays = dict[str, IndexArray | None]()
    for name in ("rows", "labels", "paths"):
        if given[name] is None:
            arrays[name] = None
            continue
        exactly(f"index: {name}", given[name], {"bytes", "digest"})
        nbytes = whole(f"index: {name}: bytes", given[name]["bytes"], 1)
        if nbytes != sizes.get(name, nbytes):
            refuse(f"index: {name}", f"{sizes[name]:,} bytes", f"{nbytes:,}")
        digest = bytes.fromhex(hexadecimal(f"index: {name}: digest", given[name]["digest"], 32))
        arrays[name] = IndexArray(at, nbytes, digest)
        at += nbytes
    if arrays["rows"] and not (arrays["labels"] and arrays["paths"]):
        refuse("index", "labels and paths beside rows", "rows alone")
    return RowIndex(file, **arrays)


def _classes(given: Any) -> tuple[str, ...]:
    names = array("classes", given)
    if not all(isinstance(name, str) for name in names):
        refuse("classes", "names", repr(names)[:60])
    return checked_classes(names)
