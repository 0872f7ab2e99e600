"""Files made to do harm, one forbidden thing at a time: refused before a byte of payload is read."""

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import structure
from conftest import Survived
from fuzz_reader import ANSWER, PER_CHILD, survives
from h5py import h5d, h5p, h5s, h5t  # pyright: ignore[reportAttributeAccessIssue]
from samples import extract, header

from cache import CacheError, CacheWriter, FeatureCache
from cache.contents import opened, read_contents
from cache.format import HEADER_DATASETS, HEADER_DIGEST
from cache.locate import locate
from cache.verify import header_digest

Maker = Callable[[h5py.File, str], object]


def array(shape: tuple[int, ...], dtype: Any, **how: Any) -> Maker:
    return lambda file, name: file.create_dataset(name, data=np.zeros(shape, dtype), dtype=dtype, **how)


def text(length: int) -> Any:
    return h5py.string_dtype("utf-8", length)


def low_level(shape: tuple[int, ...] | None, kind: Any, *changes: tuple[str, Any]) -> Maker:
    """A dataset by HDF5's own calls: `changes` are (set_…, arguments) of its creation properties."""

    def make(file: h5py.File, name: str) -> None:
        creation = h5p.create(h5p.DATASET_CREATE)
        for setter, arguments in changes:
            getattr(creation, setter)(*arguments)
        space = h5s.create(h5s.NULL) if shape is None else h5s.create_simple(shape)
        h5d.create(file.id, name.encode(), kind, space, creation)

    return make


HONEST: dict[str, Maker] = {
    "labels": array((3,), "<i8"),
    "paths": array((3,), text(5)),
    "classes": array((2,), text(5)),
    "provenance": array((9,), "u1"),
    "header_digest": array((16,), "u1"),
    "digests": array((1, 16), "u1"),
    "image_digests": array((3, 16), "u1"),
    "features": array((3, 1, 2, 2, 2), "<f2"),
}


MARK = np.bytes_(b"ten-crop-cache/1")


def build(path: Path, change: Mapping[str, Maker | None], mark: Any = MARK) -> Path:
    """A file of the right structure but for the datasets changed; None leaves one out."""
    with h5py.File(path, "w", libver=("v108", "latest")) as file:
        if mark is not None:
            file.attrs["format"] = mark
        for name, maker in (HONEST | dict(change)).items():
            if maker:
                maker(file, name)
    return path


def test_the_unchanged_structure_is_accepted(tmp_path: Path) -> None:
    """So that the refusals below are about the change."""
    with opened(build(tmp_path / "honest.h5", {})) as fd:
        assert locate(fd, "honest.h5").shape == (3, 1, 2, 2, 2)


def external_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


def soft_link(file: h5py.File, name: str) -> None:
    file[name] = h5py.SoftLink("/image_digests")


def virtual(file: h5py.File, name: str) -> None:
    layout = h5py.VirtualLayout((3, 1, 2, 2, 2), "<f2")
    layout[...] = h5py.VirtualSource("/etc/passwd", "x", (3, 1, 2, 2, 2))
    file.create_virtual_dataset(name, layout)


def group(file: h5py.File, name: str) -> None:
    file.create_group(name)


def named_type(file: h5py.File, name: str) -> None:
    file[name] = np.dtype("<f2")


F2, U1 = h5t.IEEE_F16LE, h5t.STD_U8LE
MAP = (3, 1, 2, 2, 2)
BOMB = (3, 1, 1 << 20, 1 << 12, 1 << 10)  # 24 TB

STRUCTURES: dict[str, tuple[str, Maker | None, str]] = {
    "chunked": ("features", array(MAP, "<f2", chunks=MAP), "expected contiguous storage, found chunked"),
    "compressed": ("features", array(MAP, "<f2", compression="gzip"), "found chunked storage"),
    "chunked bomb": (
        "features",
        lambda file, name: file.create_dataset(name, BOMB, "<f2", chunks=(1, 1, 64, 64, 64), compression=9),
        "found chunked storage",
    ),
    "growing": ("labels", array((3,), "<i8", maxshape=(None,)), "found chunked storage"),
    "compact": ("labels", low_level((3,), h5t.STD_I64LE, ("set_layout", [h5d.COMPACT])), "found compact"),
    "virtual": ("features", virtual, "found virtual storage"),
    "external storage": (
        "features",
        low_level(MAP, F2, ("set_external", [b"/etc/passwd", 0, 48])),
        "expected storage in this file, found external storage",
    ),
    "contiguous bomb": (
        "features",
        low_level(BOMB, F2),
        "expected storage allocated at creation, found none",
    ),
    "never written": (
        "digests",
        low_level((1, 16), U1),
        "expected storage allocated at creation, found none",
    ),
    "external link": (
        "features",
        external_link,
        "expected a dataset in this file, found a soft or external link",
    ),
    "soft link": ("digests", soft_link, "expected a dataset in this file, found a soft or external link"),
    "group": ("features", group, "expected a dataset, found another kind of object"),
    "named type": ("features", named_type, "expected a dataset, found another kind of object"),
    "missing": ("digests", None, "expected a dataset, found none"),
    "unknown": ("extra", array((3,), "u1"), "expected only the datasets of the format, found 'extra'"),
    "big-endian map": ("features", array(MAP, ">f2"), "float16 or float32 or bfloat16, found another type"),
    "big-endian label": ("labels", array((3,), ">i8"), "expected little-endian int64, found another type"),
    "float64": ("features", array(MAP, "<f8"), "found another type"),
    "integers": ("features", array(MAP, "<i2"), "found another type"),
    "int32 labels": ("labels", array((3,), "<i4"), "expected little-endian int64, found another type"),
    "unsigned labels": ("labels", array((3,), "<u8"), "expected little-endian int64, found another type"),
    "signed digest": ("digests", array((1, 16), "i1"), "expected uint8, found another type"),
    "compound": ("features", array(MAP, [("a", "<f2")]), "found another type"),
    "object paths": (
        "paths",
        lambda file, name: file.create_dataset(name, data=["a", "b", "c"], dtype=h5py.string_dtype()),
        "expected NUL-padded UTF-8 strings of fixed length, found another type",
    ),
    "references": (
        "labels",
        lambda file, name: file.create_dataset(name, (3,), h5py.ref_dtype),
        "expected little-endian int64, found another type",
    ),
    "ascii paths": ("paths", array((3,), "S5"), "expected NUL-padded UTF-8 strings"),
    "endless paths": ("paths", array((3,), text(65_536)), "expected NUL-padded UTF-8 strings"),
    "four sizes": ("features", array((3, 1, 2, 2), "<f2"), r"expected five sizes .*, found \(3, 1, 2, 2\)"),
    "six sizes": ("features", array((3, 1, 2, 2, 2, 1), "<f2"), "expected five sizes"),
    "too few labels": ("labels", array((2,), "<i8"), r"'labels': expected the shape \(3,\), found \(2,\)"),
    "label table": ("labels", array((3, 1), "<i8"), r"expected the shape \(3,\), found \(3, 1\)"),
    "one label": ("labels", array((), "<i8"), "expected an array, found a single value or none"),
    "no label": (
        "labels",
        low_level(None, h5t.STD_I64LE, ("set_alloc_time", [h5d.ALLOC_TIME_EARLY])),
        "expected an array, found a single value or none",
    ),
    "too many paths": ("paths", array((4,), text(5)), r"'paths': expected the shape \(3,\)"),
    "no class": ("classes", array((1, 1), text(5)), "'classes': expected a list of at least one name"),
    "two blocks": ("digests", array((2, 16), "u1"), r"'digests': expected the shape \(1, 16\)"),
    "short digest": ("header_digest", array((15,), "u1"), r"expected the shape \(16,\), found \(15,\)"),
    "provenance table": ("provenance", array((3, 3), "u1"), "expected 1 to 67,108,864 bytes of JSON"),
    "huge provenance": (
        "provenance",
        array(((64 << 20) + 1,), "u1"),
        "expected 1 to 67,108,864 bytes of JSON",
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_forbidden_structures_are_refused(name: str, tmp_path: Path) -> None:
    dataset, maker, message = STRUCTURES[name]
    path = build(tmp_path / "hostile.h5", {dataset: maker})
    with pytest.raises(CacheError, match=message) as caught:
        FeatureCache(path)
    assert str(caught.value).startswith(f"{path}: no usable feature cache: ")
    assert "\n" not in str(caught.value)
    part = path.rename(tmp_path / "train.h5.part")  # nor does the writer go on with it
    with pytest.raises(CacheError, match=message), CacheWriter(tmp_path / "train.h5", header(3)):
        pass
    assert part.exists()


def test_a_dataset_under_two_names_is_refused(tmp_path: Path) -> None:
    """Both would be the same bytes."""
    one_row = {
        "labels": array((1,), "<i8"),
        "paths": array((1,), text(5)),
        "image_digests": lambda file, name: file.__setitem__(name, file["digests"]),
        "features": array((1, 1, 2, 2, 2), "<f2"),
    }
    with pytest.raises(CacheError, match="expected bytes of its own, not shared with"):
        FeatureCache(build(tmp_path / "hostile.h5", one_row))


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        (None, "another program wrote it"),
        (np.bytes_(b"ten-crop-cache/2"), "found 'ten-crop-cache/2': another version wrote it"),
        (np.bytes_(b"ten-crop-cache/10"), "found 'ten-crop-cache/10': another version wrote it"),
        (np.bytes_(b"x" * 64), "another program wrote it"),
        (1, "another program wrote it"),
    ],
)
def test_another_format_or_version_is_refused(mark: Any, message: str, tmp_path: Path) -> None:
    path = build(tmp_path / "other.h5", {}, mark)
    with pytest.raises(CacheError, match="expected 'ten-crop-cache/1', .*" + message):
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


@pytest.mark.parametrize("files", [200, pytest.param(20_000, marks=pytest.mark.faults)])
def test_changed_files_get_an_answer(files: int, tiny: Path, tmp_path: Path, survived: Survived) -> None:
    """A short run of fuzz_reader.py."""
    data, (ready, tell) = tiny.read_bytes(), os.pipe()
    spans = structure.spans(data)
    for first in range(0, files, PER_CHILD):
        assert survives(data, spans, range(first, first + PER_CHILD), tmp_path, tell), f"from seed {first}"
        answers = os.read(ready, ANSWER * PER_CHILD).decode()
        assert "HDF5 can't read its structure" in answers
        assert "accepted" in answers
    os.close(ready)
    os.close(tell)
    survived("changed files with right checksums", files)


def tamper(path: Path, dataset: str, content: bytes) -> None:
    """Change a dataset of the header, of the same length, and make the header's digest right again."""
    with opened(path) as fd:
        layout = read_contents(fd, str(path)).layout
    data = bytearray(path.read_bytes())
    extent = layout[dataset]
    assert len(content) == extent.nbytes
    data[extent.offset : extent.end] = content
    parts = {name: bytes(data[layout[name].offset : layout[name].end]) for name in HEADER_DATASETS}
    digest = layout[HEADER_DIGEST]
    data[digest.offset : digest.end] = header_digest(layout, parts)
    path.write_bytes(data)


PADDED = {"pad": "x" * 40_000}
LENGTH = len(json.dumps({"identity": {}, "notes": PADDED}, separators=(",", ":")))


@pytest.mark.parametrize(
    ("dataset", "content", "message"),
    [
        ("labels", struct.pack("<3q", 0, 1, 3), "labels: expected 0 to 2, found 3 in row 2"),
        ("labels", struct.pack("<3q", 0, -1, 2), "labels: expected 0 to 2, found -1 in row 1"),
        ("paths", b"a.png" * 2 + b"b.png", "paths: 'a.png' stands there twice"),
        ("paths", b"a.png" + b"\0" * 5 + b"b.png", "path 1, '', is empty"),
        ("paths", b"a.png" + b"b\0png" + b"c.png", "path 1, .* holds a NUL"),
        ("paths", b"a.png" + b"\xff.png" + b"c.png", "can't decode byte 0xff"),
        ("classes", b"a" * 3, "classes: 'a' stands there twice"),
        ("provenance", b"[" * LENGTH, "recursion"),
        ("provenance", b" " * LENGTH, "Expecting value"),
        ("provenance", b"9" * LENGTH, "Exceeds the limit"),
        ("provenance", b"\xff" * LENGTH, "codec can't decode|can't decode byte"),
        ("provenance", b'{"identity":{},"notes":{}}'.ljust(LENGTH), "expected canonical JSON"),
        ("provenance", b'{"a":{},"notes":{}}'.ljust(LENGTH), "expected canonical JSON"),
        ("provenance", b'{"identity":{},"notes":{"a":NaN}}'.ljust(LENGTH), "a is nan"),
        (
            "provenance",
            (b'{"identity":[],"notes":"' + b"x" * LENGTH)[: LENGTH - 2] + b'"}',
            "expected a dict",
        ),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(
    dataset: str, content: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "train.h5"
    made = header(3, paths=["1.png", "2.png", "3.png"], classes=["a", "b", "c"], identity={}, notes=PADDED)
    extract(path, made)
    tamper(path, dataset, content)
    with pytest.raises(CacheError, match=message) as caught:
        FeatureCache(path)
    assert str(caught.value).startswith(f"{path}: no usable feature cache: ")
    assert len(str(caught.value)) < 500


def test_no_hostile_name_reaches_the_terminal_raw(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = build(tmp_path / "hostile.h5", {"\x1b]0;x\x07\n": array((1,), "u1")})
    with pytest.raises(CacheError) as caught:
        FeatureCache(path)
    assert str(caught.value).isprintable()
    assert os.path.exists(path)
    assert capfd.readouterr() == ("", "")
