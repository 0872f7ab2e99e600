"""Files that are no cache, or lie about sizes and places."""

import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import structure
from support.building import build
from support.samples import extract, header, several_labels

from cache import CacheError, FeatureCache
from cache.contents import opened, read_contents

pytestmark = pytest.mark.fault("hostile HDF5: false bytes with right checksums")


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (None, "another program wrote it"),
        (np.bytes_(b"ten-crop-cache/3"), "found 'ten-crop-cache/3': another version wrote it"),
        (np.bytes_(b"ten-crop-cache/10"), "found 'ten-crop-cache/10': another version wrote it"),
        (np.bytes_(b"x" * 64), "another program wrote it"),
        (1, "another program wrote it"),
    ],
)
def test_another_format_or_version_is_refused(mark: Any, message: str, tmp_path: Path) -> None:
    path = build(tmp_path / "other.h5", {}, mark)
    with pytest.raises(CacheError, match="expected 'ten-crop-cache/1' or 'ten-crop-cache/2', .*" + message):
        FeatureCache(path)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        bytes(10_000),
        b"\x89HDF\r\n\x1a\n",
        b"\x89HDF\r\n\x1a\n\2ten-crop-cache/1" + b"\xff" * 5000,
        b"PK\3\4" * 900,
    ],
    ids=["empty", "a byte", "zeros", "signature", "signature and ones", "zip"],
)
def test_what_is_no_hdf5_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    path.write_bytes(data)
    with pytest.raises(
        CacheError, match=r"expected an HDF5 superblock|HDF5 can't read its structure \(5,025 bytes\)"
    ):
        FeatureCache(path)


def test_a_user_block_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "shifted.h5"
    path.write_bytes(b"\0" * 512 + tiny.read_bytes())
    with pytest.raises(CacheError, match="expected an HDF5 superblock of version 2 at its start"):
        FeatureCache(path)


def u64(*numbers: int) -> bytes:
    return struct.pack(f"<{len(numbers)}Q", *numbers)


@pytest.mark.parametrize(
    "shape",
    [
        (3, 1, 16, 4, 4 + (1 << 20)),
        (3, 1 + (1 << 60), 16, 4, 4),  # 2⁶⁴ times something and the honest size: the same in 64 bits
        (3, 1 << 32, 1 << 32, 4, 4),
        ((1 << 63) + 3, 1, 16, 4, 4),
        (0, 1, 16, 4, 4),
        (3, 0, 16, 4, 4),
    ],
)
@pytest.mark.parametrize("size_too", [True, False])
def test_sizes_that_the_file_doesn_t_have_are_refused(
    shape: tuple[int, ...], size_too: bool, tiny: Path, tmp_path: Path
) -> None:
    data, honest = tiny.read_bytes(), u64(3, 1, 16, 4, 4)
    assert honest in data
    changed = data.replace(honest, u64(*shape))
    if size_too:  # the layout message: address, size
        where = u64(4096, 1536)
        assert data.count(where) == 1
        changed = changed.replace(where, u64(4096, int(np.prod(shape, dtype=object)) * 2 % (1 << 64)))
    path = tmp_path / "hostile.h5"
    path.write_bytes(structure.mended(changed, structure.spans(data)))
    with pytest.raises(CacheError, match="no usable feature cache"):
        FeatureCache(path)


@pytest.mark.parametrize(
    "offset", [0, 48, 1000, 2561, 4095, 4097, 5632, 1 << 40, (1 << 63) - 1, (1 << 64) - 2]
)
def test_a_place_that_isn_t_the_dataset_s_own_is_refused(offset: int, tiny: Path, tmp_path: Path) -> None:
    data = tiny.read_bytes()
    changed = data.replace(u64(4096, 1536), u64(offset, 1536))
    path = tmp_path / "hostile.h5"
    path.write_bytes(structure.mended(changed, structure.spans(data)))
    with pytest.raises(CacheError, match=r"no usable feature cache|damaged: expected [\d,]+ bytes"):
        FeatureCache(path)


@pytest.mark.parametrize(
    ("classes", "size_too", "length", "message"),
    [
        (4 + (1 << 30), False, None, "HDF5 can't read its structure"),
        (4 + (1 << 30), True, None, "HDF5 can't read its structure"),
        (4 + (1 << 62), False, None, "HDF5 can't read its structure"),
        (4 + (1 << 62), True, None, "HDF5 can't read its structure"),
        (4 + (1 << 30), True, 1 << 34, "expected bytes of its own, not shared with 'labels'"),
    ],
    ids=["too many", "too large", "as many in 64 bits", "as large in 64 bits", "sparse file"],
)
def test_classes_without_end_are_refused_in_little_memory(
    classes: int, size_too: bool, length: int | None, message: str, tmp_path: Path
) -> None:
    """[4, K] labels of one byte and [K] classes of four, which are 16 bytes each, also modulo 2⁶⁴."""
    path = tmp_path / "train.h5"
    extract(path, header(4, classes=["aaaa", "b", "c", "d"], labels=several_labels(4, 4)))
    with opened(path) as fd:
        layout = read_contents(fd, str(path)).layout
    data = path.read_bytes()
    changed = bytearray(data)
    for name, new in (("labels", (4, classes)), ("classes", (classes,))):
        old, place = layout[name].shape, u64(layout[name].offset, 16)
        at = data.index(place)
        if size_too:
            changed[at + 8 : at + 16] = u64(4 * classes % (1 << 64))
        at = data.rindex(u64(*old) * 2, 0, at)  # the sizes, and the largest that they may grow to
        changed[at : at + 16 * len(old)] = u64(*new) * 2
    if length:
        changed[28:36] = u64(length)  # in the superblock
    path.write_bytes(structure.mended(bytes(changed), structure.spans(data)))
    if length:
        os.truncate(path, length)
    tracemalloc.start()
    with pytest.raises(CacheError, match="no usable feature cache: .*" + message):
        FeatureCache(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
