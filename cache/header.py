"""A cache's header: all that is known before a feature is computed, checked for writer and reader alike."""

import functools
import json
import math
import operator
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from cache.dtypes import DTYPES, StorageDtype, scaled
from cache.errors import CacheError, StaleCacheError
from cache.identity import canonical, differences, first_difference, key, with_flags
from cache.paths import Paths
from cache.scales import Scales, as_json, scales_problem, stored_as

MAX_TEXT = 65_535  # bytes of a path or class name
MAX_PROVENANCE = 64 << 20
Labels = NDArray[np.int64] | NDArray[np.int8]


@dataclass(eq=False)
class CacheHeader:
    """Everything but the features; checked when it is made, and not to be changed afterwards.

    shape: (N, V, C, H, W), images × views × map. dtype: a name in `cache.dtypes.DTYPES`.
    labels: (N,) integers, indices into `classes`, kept as int64; or, multi-label, (N, K) integers, a column
    for each class: 1 present, 0 absent, -1 not counted, kept as int8. paths: N unique names of images,
    kept as `Paths`.
    identity: what the features are made from, as nested named fields. notes: facts about the making that
    don't change the key. flags: the flag that sets each field of the identity (`views`: `--views`), and notes
    that decide which images there are; not stored, messages name them.
    scales: (2, C) float32, scale and zero point of each channel, of int8 and of no other dtype; `fit_scales`
    chooses them.

    Raises: CacheError when a field has a value that the format can't hold.
    """

    shape: tuple[int, int, int, int, int]
    dtype: str
    labels: Labels
    paths: Sequence[str]
    classes: Sequence[str]
    identity: dict[str, Any]
    notes: dict[str, Any] = field(default_factory=dict)
    flags: Mapping[str, str] = field(default_factory=dict)
    scales: Scales | None = None

    def __post_init__(self) -> None:
        self.shape = _checked_shape(self.shape)
        if self.dtype not in DTYPES:
            _refuse(f"dtype: expected one of {', '.join(DTYPES)}, found {self.dtype!r}")
        self.paths = checked_paths(self.paths, self.shape[0])
        self.classes = checked_classes(self.classes)
        self.labels = _checked_labels(self.labels, self.shape[0], self.classes)
        self.identity = _checked_json("identity", self.identity)
        self.notes = _checked_json("notes", self.notes)
        self.scales = _checked_scales(self.scales, self.dtype, self.shape[2])
        if len(self.provenance) > MAX_PROVENANCE:
            _refuse(f"identity and notes: expected at most {MAX_PROVENANCE >> 20} MiB of JSON")

    @property
    def multi_label(self) -> bool:
        """Whether `labels` is (N, K), any number of classes to an image, and not (N,)."""
        return self.labels.ndim == 2

    @property
    def storage(self) -> StorageDtype:
        """How numbers are stored, by the scales if there are any."""
        return DTYPES[self.dtype] if self.scales is None else scaled(self.scales)

    @property
    def provenance(self) -> bytes:
        fields = {"identity": self.identity, "notes": self.notes}
        return canonical(fields if self.scales is None else fields | {"scales": as_json(self.scales)})

    @property
    def nbytes(self) -> int:
        """What a file with this header takes on the disk, but for HDF5's structures, some kilobytes."""
        features = math.prod(self.shape) * DTYPES[self.dtype].raw.itemsize
        texts = sum(len(name.encode()) for name in self.classes) + len(self.provenance)
        return features + 16 * self.shape[0] + self.labels.nbytes + len(Paths.of(self.paths).data) + texts

    @functools.cached_property
    def full_identity(self) -> dict[str, Any]:
        """`identity` with shape, dtype and digests of the paths and scales: what the key is made from."""
        known = {"shape": list(self.shape), "paths": Paths.of(self.paths).sha256}
        return self.identity | known | stored_as(self.dtype, self.scales)

    @functools.cached_property
    def key(self) -> str:
        """SHA-256 of the identity, in hexadecimal: with image contents equal too, features are equal."""
        return key(self.full_identity)

    def labelled_like(self, other: "CacheHeader") -> bool:
        return list(self.classes) == list(other.classes) and np.array_equal(self.labels, other.labels)


def refuse_if_stale(file: str, found: CacheHeader, wanted: CacheHeader) -> None:
    """Raises: StaleCacheError naming up to eight fields of the identity that differ, and their flags."""
    if found.key == wanted.key:
        return
    fields = differences(found.full_identity, wanted.full_identity)
    fields = [first_difference(found.paths, wanted.paths) if f.startswith("paths:") else f for f in fields]
    if found.paths != wanted.paths:
        recorded = [name for name in wanted.flags if name in found.notes and name in wanted.notes]
        then, now = ({name: header.notes[name] for name in recorded} for header in (found, wanted))
        fields = differences(then, now) + fields  # the cause before what follows from it
    fields = with_flags(fields, wanted.flags)
    more = f"; and {len(fields) - 8} more" if len(fields) > 8 else ""
    raise StaleCacheError(
        f"{file}: made from something else: {'; '.join(fields[:8])}{more}; delete it or choose another folder"
    )


def _refuse(problem: str) -> NoReturn:
    raise CacheError(f"cache header: {problem}")


def _checked_shape(shape: Sequence[int]) -> tuple[int, int, int, int, int]:
    sizes = tuple(operator.index(n) for n in shape)
    if len(sizes) != 5:
        _refuse(f"shape: expected (images, views, channels, rows, columns), found {sizes}")
    if sizes[0] < 1:
        _refuse("shape: a cache needs at least one image, found 0")
    if min(sizes) < 1:
        _refuse(f"shape: every size is at least 1, found {sizes}")
    return sizes


def _checked_json(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(fields, dict):
        _refuse(f"{name}: expected a dict, found a {type(fields).__name__}")
    return json.loads(canonical(fields))


def _checked_scales(scales: Any, dtype: str, channels: int) -> Scales | None:
    """A read-only copy as it is stored."""
    if scales is None:
        return (
            _refuse(f"scales: expected those of {channels} channels, found none") if dtype == "int8" else None
        )
    if dtype != "int8":
        _refuse(f"scales: expected none, numbers of type {dtype} have no scales")
    if problem := scales_problem(scales, channels):
        _refuse(f"scales: {problem}")
    checked = np.array(scales, "<f4", order="C")
    checked.flags.writeable = False
    return checked


def checked_paths(given: Sequence[str], images: int) -> Paths:
    """Raises: CacheError when they aren't so many, or one is empty, too long, or stands there twice."""
    paths = Paths.of(given)
    if len(paths) != images:
        _refuse(f"paths: expected {images}, one for each image, found {len(paths)}")
    sizes = paths.lengths
    shortest, longest = int(sizes.argmin()), int(sizes.argmax())
    if not sizes[shortest]:
        _refuse(f"paths: path {shortest}, '', is empty")
    if (size := sizes[longest]) > MAX_TEXT:
        _refuse(f"paths: path {longest}, {paths[longest][:80]!r}, has {size} bytes; at most {MAX_TEXT} fit")
    if (twice := paths.repeated()) is not None:
        _refuse(f"paths: {twice!r} stands there twice")
    return paths


def checked_classes(given: Sequence[str]) -> tuple[str, ...]:
    """Raises: CacheError when there are none, or a name stands there twice or can't be stored."""
    classes = tuple(given)
    if not classes:
        _refuse("classes: expected at least one, found none")
    if len(set(classes)) != len(classes):
        twice, _ = Counter(classes).most_common(1)[0]
        _refuse(f"classes: {twice!r} stands there twice")
    for row, name in enumerate(classes):
        if problem := _text_problem(name):
            _refuse(f"classes: class {row}, {name[:80]!r}, {problem}")
    return classes


def _text_problem(name: str) -> str:
    """Why the format can't hold a class name; empty when it can."""
    if "\0" in name:
        return "holds a NUL character"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "is not valid Unicode; rename the class"
    return f"has {size} bytes; at most {MAX_TEXT} fit" if size > MAX_TEXT else ""


def _checked_labels(labels: NDArray[Any], images: int, classes: Sequence[str]) -> Labels:
    """A read-only copy as it is stored, or an array that is read-only and so already. Values are looked at
    before the conversion, which could wrap them."""
    given = np.asarray(labels)
    if given.ndim == 2:
        _check_multi_label(given, images, classes)
        checked = given.astype(np.int8, order="C")
    else:
        _check_single_label(given, images, len(classes))
        is_final = given.dtype == "<i8" and given.base is None and not given.flags.writeable
        checked = given if is_final else given.astype("<i8")
    checked.flags.writeable = False
    return checked


def _check_single_label(given: NDArray[Any], images: int, classes: int) -> None:
    if given.dtype.kind not in "iu" or given.shape != (images,):
        _refuse(
            f"labels: expected {images} integers, found {given.dtype} of shape {given.shape}; "
            f"multi-label ones have the shape {(images, classes)}"
        )
    if given.min() < 0 or given.max() >= classes:
        row = int(np.argmax((given < 0) | (given >= classes)))
        _refuse(f"labels: expected 0 to {classes - 1}, found {given[row]} in row {row}")


def _check_multi_label(given: NDArray[Any], images: int, classes: Sequence[str]) -> None:
    if given.dtype.kind not in "iu" or given.shape != (images, len(classes)):
        _refuse(
            f"labels: expected integers of shape {(images, len(classes))}, images × classes, "
            f"found {given.dtype} of shape {given.shape}"
        )
    if given.min() < -1 or given.max() > 1:
        row, column = divmod(int(np.argmax((given < -1) | (given > 1))), len(classes))
        _refuse(
            "labels: expected 1 (present), 0 (absent) or -1 (not counted), "
            f"found {given[row, column]} in row {row} for class {column}, {classes[column][:80]!r}"
        )
