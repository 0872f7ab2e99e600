"""A manifest: what a split of several files holds, and in which files (FORMAT.md §7)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xxhash

from cache.dtypes import DTYPES
from cache.identity import canonical, key
from cache.scales import Scales, as_json, stored_as

MANIFEST = "ten-crop-manifest/1"
SUFFIX = ".json"  # of a manifest's name


@dataclass(frozen=True)
class Shard:
    """What a manifest says of one of its files. `rows`: its places among the rows of all shards."""

    file: str
    rows: range
    nbytes: int
    key: str
    header: bytes
    header_at: int
    fingerprint: bytes

    def described(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "rows": [self.rows.start, self.rows.stop],
            "bytes": self.nbytes,
            "key": self.key,
            "header": self.header.hex(),
            "header_at": self.header_at,
            "fingerprint": self.fingerprint.hex(),
        }


@dataclass(frozen=True)
class IndexArray:
    """One array of a row index: where it lies in the file, and the digest of its bytes."""

    offset: int
    nbytes: int
    digest: bytes


@dataclass(frozen=True)
class RowIndex:
    """What a manifest says of its row index. Arrays that the shards hold themselves are None."""

    file: str
    rows: IndexArray | None
    labels: IndexArray | None
    paths: IndexArray | None

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in (self.rows, self.labels, self.paths) if array)

    def described(self) -> dict[str, Any]:
        arrays = {"rows": self.rows, "labels": self.labels, "paths": self.paths}
        return {"file": self.file} | {
            name: array and {"bytes": array.nbytes, "digest": array.digest.hex()}
            for name, array in arrays.items()
        }


@dataclass(frozen=True)
class Manifest:
    """All that stands in a manifest; checked when it is read."""

    shape: tuple[int, int, int, int, int]
    dtype: str
    classes: tuple[str, ...]
    identity: dict[str, Any]
    notes: dict[str, Any]
    varying: tuple[str, ...]
    multi_label: bool
    paths_sha256: str
    key: str
    images: bytes
    shards: tuple[Shard, ...]
    index: RowIndex | None
    scales: Scales | None = None

    def of_shards(self, identity: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of an identity in which every shard is like the split."""
        return {name: value for name, value in identity.items() if name not in self.varying}

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * DTYPES[self.dtype].raw.itemsize

    @property
    def places(self) -> int:
        """How many rows all shards have together."""
        return self.shards[-1].rows.stop

    def encode(self) -> bytes:
        """The bytes of the file."""
        fields = {
            "format": MANIFEST,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "classes": list(self.classes),
            "identity": self.identity,
            "notes": self.notes,
            "varying": list(self.varying),
            "labels": "int8" if self.multi_label else "int64",
            "paths": self.paths_sha256,
            "key": self.key,
            "images": self.images.hex(),
            "shards": [shard.described() for shard in self.shards],
            "index": self.index and self.index.described(),
            "scales": None if self.scales is None else as_json(self.scales),
        }
        return canonical(fields | {"digest": digest_of(fields)})


def digest_of(fields: Mapping[str, Any]) -> str:
    """The digest of a manifest's fields, `digest` left out."""
    return xxhash.xxh3_128_hexdigest(canonical({k: v for k, v in fields.items() if k != "digest"}))


def key_of(
    shape: tuple[int, ...], dtype: str, paths_sha256: str, identity: dict[str, Any], scales: Scales | None
) -> str:
    """The key of a cache of this shape, dtype, paths and scales."""
    return key(identity | {"shape": list(shape), "paths": paths_sha256} | stored_as(dtype, scales))
