"""Find the datasets of an existing file, and refuse what FORMAT.md §1 forbids before a payload byte is read.

A file from elsewhere may be damaged or made to do harm: to read other files through links and external
storage, to expand chunks and filters without end, or to promise more bytes than it has, which a memory map
answers with SIGBUS.
"""

# pyright: reportAttributeAccessIssue=false
# h5py's low-level modules are compiled and have no type stubs.

import os
import re
from itertools import pairwise
from typing import NoReturn

from h5py import h5d, h5f, h5fd, h5l, h5o, h5p, h5s, h5t

from cache.dtypes import DTYPES
from cache.errors import CacheError
from cache.format import (
    CLASSES,
    DATASETS,
    DIGEST_BYTES,
    DIGESTS,
    FEATURES,
    HEADER_DIGESTS,
    IMAGE_DIGESTS,
    IMAGES_DIGEST_BYTES,
    LABEL_TYPES,
    LABELS,
    MARK_BYTES,
    PATHS,
    PROGRAM,
    PROVENANCE,
    VERSIONS,
    Extent,
    Layout,
    block_count,
    signature,
)
from cache.header import MAX_PROVENANCE, MAX_TEXT

# What h5py raises about structures that HDF5 can't make sense of.
_HDF5_ERRORS = (OSError, RuntimeError, ValueError, KeyError, TypeError, NotImplementedError, OverflowError)
_LAYOUTS = ("compact", "contiguous", "chunked", "virtual")  # by HDF5's number
_SUPERBLOCK = b"\x89HDF\r\n\x1a\n\x02"


_DELETE = "delete it and extract again"
_MOVE = "move it away, or give another place"  # nobody should be told to delete another program's file


class _ForbiddenError(Exception):
    """A file's fault and the remedy, without the file's name."""


def locate(fd: int, file: str) -> Layout:
    """The layout of an open file. `file` is its name in messages.

    Raises: CacheError when it isn't a cache of this version, is cut off, or holds anything forbidden.
    """
    size = os.fstat(fd).st_size
    try:
        with os.fdopen(fd, "rb", buffering=0, closefd=False) as stream:
            access = h5p.create(h5p.FILE_ACCESS)
            access.set_fileobj_driver(h5fd.fileobj_driver, stream)
            access.set_fclose_degree(h5f.CLOSE_STRONG)
            version = _version(stream.read(MARK_BYTES))
            root = h5f.open(b"cache", h5f.ACC_RDONLY, access)
            try:
                return _located(root, size, version)
            finally:
                root.close()
    except _ForbiddenError as error:
        raise CacheError(f"{file}: no usable feature cache: {error}") from None
    except _HDF5_ERRORS as error:
        raise CacheError(
            f"{file}: no usable feature cache: HDF5 can't read its structure ({size:,} bytes); "
            f"it is cut off, damaged or no HDF5; {_DELETE}"
        ) from error


def _located(root: h5f.FileID, size: int, version: int) -> Layout:
    known = {name.encode(): name for name in DATASETS}
    for name in root:
        if name not in known:
            _forbid("the file", "only the datasets of the format", repr(name[:40].decode("utf-8", "replace")))
    datasets = {name: _dataset(root, name, version) for name in DATASETS}
    extents = {name: _extent(name, dataset, size) for name, dataset in datasets.items()}
    _check_shapes(extents)
    _check_apart(extents)
    kind = datasets[FEATURES].get_type()
    dtype = next(d for d in DTYPES.values() if kind.equal(d.hdf5()))
    return Layout(dtype, extents)


def _version(start: bytes) -> int:
    """Look for HDF5's signature, and for ours, the value of an attribute of the root group, in the bytes;
    gives the version in it.

    So HDF5 never sees a file of another program, nor an attribute that was tampered with, which ends the
    process in some of its versions (1.14.4).
    """
    if not start.startswith(_SUPERBLOCK):
        _forbid("the file", "an HDF5 superblock of version 2 at its start", "something else", _MOVE)
    expected = " or ".join(repr(signature(version)) for version in VERSIONS)
    found = re.search(PROGRAM.encode() + rb"/\d+", start)
    if not found:
        _forbid("the file", expected, "no such mark: another program wrote it", _MOVE)
    for version in VERSIONS:
        if found[0] == signature(version).encode():
            return version
    _forbid("the file", expected, f"{found[0].decode()!r}: another version wrote it")


def _dataset(root: h5f.FileID, name: str, version: int) -> h5d.DatasetID:
    """Open a dataset that is a plain array inside this file."""
    if not root.links.exists(name.encode()):
        _forbid(repr(name), "a dataset", "none")
    if root.links.get_info(name.encode()).type != h5l.TYPE_HARD:
        _forbid(repr(name), "a dataset in this file", "a soft or external link")
    dataset = h5o.open(root, name.encode())
    if not isinstance(dataset, h5d.DatasetID):
        _forbid(repr(name), "a dataset", "another kind of object")
    creation = dataset.get_create_plist()
    if (layout := creation.get_layout()) != h5d.CONTIGUOUS:
        _forbid(repr(name), "contiguous storage", f"{_LAYOUTS[layout]} storage")
    if creation.get_external_count():
        _forbid(repr(name), "storage in this file", "external storage")
    if creation.get_nfilters():
        _forbid(repr(name), "no filters", "filters")
    _check_type(name, dataset.get_type(), version)
    return dataset


def _check_type(name: str, kind: h5t.TypeID, version: int) -> None:
    if name == FEATURES:
        types = [dtype for dtype in DTYPES.values() if dtype.version == version]
        expected = " or ".join(dtype.name for dtype in types)
        fits = any(kind.equal(dtype.hdf5()) for dtype in types)
    elif name == CLASSES:
        expected, fits = "NUL-padded UTF-8 strings of fixed length", _is_text(kind)
    elif name == LABELS:
        expected, fits = "little-endian int64 or int8", any(kind.equal(k) for k in LABEL_TYPES.values())
    else:
        expected, fits = "uint8", kind.equal(h5t.STD_U8LE)
    if not fits:
        _forbid(repr(name), f"numbers of type {expected}" if name == FEATURES else expected, "another type")


def _is_text(kind: h5t.TypeID) -> bool:
    return (
        isinstance(kind, h5t.TypeStringID)
        and not kind.is_variable_str()
        and kind.get_size() <= MAX_TEXT
        and kind.get_cset() == h5t.CSET_UTF8
        and kind.get_strpad() == h5t.STR_NULLPAD
    )


def _extent(name: str, dataset: h5d.DatasetID, size: int) -> Extent:
    space = dataset.get_space()
    if space.get_simple_extent_type() != h5s.SIMPLE:
        _forbid(repr(name), "an array", "a single value or none")
    shape = space.get_simple_extent_dims()
    offset = dataset.get_offset()
    if offset is None:
        _forbid(repr(name), "storage allocated at creation", "none")
    extent = Extent(shape, dataset.get_type().get_size(), offset)
    if extent.end > size or dataset.get_storage_size() != extent.nbytes:
        _forbid(repr(name), f"{extent.nbytes:,} bytes from byte {offset:,} on", f"a file of {size:,} bytes")
    return extent


def _check_shapes(extents: dict[str, Extent]) -> None:
    shapes = {name: extent.shape for name, extent in extents.items()}
    features = shapes[FEATURES]
    if len(features) != 5 or not all(features):
        _forbid(repr(FEATURES), "five sizes (N, V, C, H, W), all at least 1", str(features))
    if len(shapes[CLASSES]) != 1 or not shapes[CLASSES][0]:
        _forbid(repr(CLASSES), "a list of at least one name", f"the shape {shapes[CLASSES]}")
    if len(shapes[PROVENANCE]) != 1 or not 0 < shapes[PROVENANCE][0] <= MAX_PROVENANCE:
        _forbid(repr(PROVENANCE), f"1 to {MAX_PROVENANCE:,} bytes of JSON", f"the shape {shapes[PROVENANCE]}")
    least, most = 2 * features[0], (MAX_TEXT + 1) * features[0]  # a byte and a zero byte behind it, or more
    if len(shapes[PATHS]) != 1 or not least <= shapes[PATHS][0] <= most:
        _forbid(repr(PATHS), f"{least:,} to {most:,} bytes of text", f"the shape {shapes[PATHS]}")
    rows, is_single_label = features[0], extents[LABELS].item == LABEL_TYPES[1].get_size()
    expected = {
        LABELS: (rows,) if is_single_label else (rows, shapes[CLASSES][0]),
        HEADER_DIGESTS: (DIGEST_BYTES + IMAGES_DIGEST_BYTES,),
        DIGESTS: (block_count(rows), DIGEST_BYTES),
        IMAGE_DIGESTS: (rows, DIGEST_BYTES),
    }
    for name, shape in expected.items():
        if shapes[name] != shape:
            _forbid(repr(name), f"the shape {shape}", str(shapes[name]))


def _check_apart(extents: dict[str, Extent]) -> None:
    """No two datasets share a byte, and `features` is the last."""
    by_offset = sorted(extents, key=lambda name: extents[name].offset)
    for before, after in pairwise(by_offset):
        if extents[before].end > extents[after].offset:
            _forbid(repr(after), f"bytes of its own, not shared with {before!r}", "shared ones")
    if by_offset[-1] != FEATURES:
        _forbid(repr(FEATURES), "the last place in the file", f"{by_offset[-1]!r} behind it")


def _forbid(what: str, expected: str, found: str, remedy: str = _DELETE) -> NoReturn:
    raise _ForbiddenError(f"{what}: expected {expected}, found {found}; {remedy}")
