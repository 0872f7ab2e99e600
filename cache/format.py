"""The file's layout: the only module that knows the names of datasets. See FORMAT.md.

HDF5 only ever sees the structure: it lays a new file out in memory (`create`) and says where things are in an
existing one (`hdf5_checks.py`). Contents are read and written by offset, so a full disk, a kill, or a hostile
chunk, filter or link can't reach it.
"""

# pyright: reportAttributeAccessIssue=false
# h5py's low-level modules are compiled and have no type stubs.

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import h5py
import numpy as np
from h5py import h5a, h5d, h5f, h5fd, h5p, h5s, h5t

from cache.dtypes import DTYPES, StorageDtype
from cache.errors import CacheError
from cache.header import CacheHeader
from cache.paths import Paths

PROGRAM = "ten-crop-cache"  # the signature is this, a slash and the version
VERSIONS = (1, 2)
BLOCK_ROWS = 1024
DIGEST_BYTES = 16
IMAGES_DIGEST_BYTES = 32
_PAGE = 4096
MARK = "format"  # the root attribute that holds the signature
MARK_BYTES = 512  # somewhere in these first bytes

LABELS, PATHS, CLASSES, PROVENANCE = "labels", "paths", "classes", "provenance"
HEADER_DIGESTS, DIGESTS, IMAGE_DIGESTS, FEATURES = "header_digests", "digests", "image_digests", "features"
DATASETS = (LABELS, PATHS, CLASSES, PROVENANCE, HEADER_DIGESTS, DIGESTS, IMAGE_DIGESTS, FEATURES)
HEADER_DATASETS = (LABELS, PATHS, CLASSES, PROVENANCE)  # what the first header digest covers, in order
LABEL_TYPES = {1: h5t.STD_I64LE, 2: h5t.STD_I8LE}  # by rank: one class to an image, or a column for each


def signature(version: int) -> str:
    """What stands at the start of a file."""
    return f"{PROGRAM}/{version}"


def block_count(rows: int) -> int:
    return -(-rows // BLOCK_ROWS)


@dataclass(frozen=True)
class Extent:
    """Where a dataset lies: `nbytes` at `offset`; `item` is the size of one element."""

    shape: tuple[int, ...]
    item: int
    offset: int

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.item

    @property
    def end(self) -> int:
        return self.offset + self.nbytes


@dataclass(frozen=True)
class Layout:
    """Where everything lies in one file."""

    dtype: StorageDtype
    extents: dict[str, Extent]

    def __getitem__(self, name: str) -> Extent:
        return self.extents[name]

    @property
    def signature(self) -> str:
        return signature(self.dtype.version)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, V, C, H, W)"""
        return self.extents[FEATURES].shape

    @property
    def row_bytes(self) -> int:
        return self.extents[FEATURES].nbytes // self.shape[0]

    @property
    def end(self) -> int:
        """The size of a complete file."""
        return self.extents[FEATURES].end

    @property
    def blocks(self) -> int:
        return block_count(self.shape[0])

    def block(self, number: int) -> range:
        """The rows of a block."""
        return range(number * BLOCK_ROWS, min((number + 1) * BLOCK_ROWS, self.shape[0]))


def create(header: CacheHeader) -> tuple[bytes, Layout]:
    """A new file without its contents: HDF5's structure, which ends before `features`, and the layout."""
    dtype, wanted = DTYPES[header.dtype], _wanted(header)
    feature_bytes = math.prod(header.shape) * dtype.raw.itemsize
    image = io.BytesIO()
    file = _create_in_memory(image, signature(dtype.version))
    extents = {name: _add(file, name, *wanted[name]) for name in DATASETS[:-1]}
    file.close()
    # Opened again for `features` alone, so that it lies on a page, and in no gap before another dataset.
    image.write(bytes(max(0, max(e.end for e in extents.values()) - image.seek(0, io.SEEK_END))))
    file = h5f.open(b"layout", h5f.ACC_RDWR, _in_memory(image, align_from=min(feature_bytes, _PAGE)))
    extents[FEATURES] = _add(file, FEATURES, *wanted[FEATURES])
    file.close()
    layout = Layout(dtype, extents)
    structure = image.getvalue()
    is_marked = layout.signature.encode() in structure[:MARK_BYTES]
    if not is_marked or layout[FEATURES].offset % _PAGE or len(structure) > layout[FEATURES].offset:
        raise CacheError(
            f"HDF5 {h5py.version.hdf5_version} lays files out in an unknown way; use h5py 3.13 to 3.16"
        )
    return structure, layout


def _wanted(header: CacheHeader) -> dict[str, tuple[tuple[int, ...], h5t.TypeID]]:
    """Shape and type of each dataset."""
    rows, u8 = header.shape[0], h5t.STD_U8LE
    return {
        LABELS: (header.labels.shape, LABEL_TYPES[header.labels.ndim]),
        PATHS: ((len(Paths.of(header.paths).data),), u8),
        CLASSES: ((len(header.classes),), _text_type(header.classes)),
        PROVENANCE: ((len(header.provenance),), u8),
        HEADER_DIGESTS: ((DIGEST_BYTES + IMAGES_DIGEST_BYTES,), u8),
        DIGESTS: ((block_count(rows), DIGEST_BYTES), u8),
        IMAGE_DIGESTS: ((rows, DIGEST_BYTES), u8),
        FEATURES: (header.shape, DTYPES[header.dtype].hdf5()),
    }


def _in_memory(image: io.BytesIO, align_from: int) -> h5p.PropFAID:
    """Access to a file in memory, in which things of at least `align_from` bytes lie on pages."""
    access = h5p.create(h5p.FILE_ACCESS)
    access.set_fileobj_driver(h5fd.fileobj_driver, image)
    access.set_libver_bounds(h5f.LIBVER_V18, h5f.LIBVER_V18)  # checksummed metadata, readable since 2008
    access.set_alignment(align_from, _PAGE)
    return access


def _create_in_memory(image: io.BytesIO, signature: str) -> h5f.FileID:
    creation = h5p.create(h5p.FILE_CREATE)
    creation.set_obj_track_times(False)
    file = h5f.create(b"layout", h5f.ACC_EXCL, fcpl=creation, fapl=_in_memory(image, align_from=1 << 62))
    mark = np.bytes_(signature.encode("ascii"))
    attribute = h5a.create(file, MARK.encode(), h5t.py_create(mark.dtype), h5s.create(h5s.SCALAR))
    attribute.write(np.array(mark))
    return file


def _add(file: h5f.FileID, name: str, shape: tuple[int, ...], kind: h5t.TypeID) -> Extent:
    if name == FEATURES:
        # A link that comes and goes leaves room in the root group. Without, HDF5 would put the link to this
        # dataset behind its data, and the file would not end with the features.
        file.links.create_soft(name.encode(), b"reserved")
        file.unlink(name.encode())
    creation = h5p.create(h5p.DATASET_CREATE)
    creation.set_layout(h5d.CONTIGUOUS)
    creation.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5d.FILL_TIME_NEVER)
    creation.set_obj_track_times(False)
    dataset = h5d.create(file, name.encode(), kind, h5s.create_simple(shape), creation)
    return Extent(shape, kind.get_size(), dataset.get_offset())


def _text_type(texts: Sequence[str]) -> h5t.TypeID:
    kind = h5t.C_S1.copy()
    kind.set_size(max(1, *(len(t.encode("utf-8")) for t in texts)))
    kind.set_strpad(h5t.STR_NULLPAD)
    kind.set_cset(h5t.CSET_UTF8)
    return kind
