"""Files made to do harm, one forbidden structure at a time: refused before a byte of payload is read."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5t  # pyright: ignore[reportAttributeAccessIssue]
from support.building import Maker, array, build, low_level, text
from support.samples import header

from cache import CacheError, CacheWriter, FeatureCache
from cache.contents import opened
from cache.hdf5_checks import locate

pytestmark = pytest.mark.fault("hostile HDF5: forbidden structure")


@pytest.mark.parametrize("labels", [array((3,), "<i8"), array((3, 2), "i1")], ids=["single", "multi"])
def test_the_unchanged_structure_is_accepted(labels: Maker, tmp_path: Path) -> None:
    """So that the refusals below are about the change."""
    with opened(build(tmp_path / "honest.h5", {"labels": labels})) as fd:
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
EARLY = ("set_alloc_time", [h5d.ALLOC_TIME_EARLY])
NO_LABEL_TYPE = "'labels': expected little-endian int64 or int8, found another type"
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
    "big-endian label": ("labels", array((3,), ">i8"), NO_LABEL_TYPE),
    "float64": ("features", array(MAP, "<f8"), "found another type"),
    "integers": ("features", array(MAP, "<i2"), "found another type"),
    "int8 in version 1": ("features", array(MAP, "i1"), "or bfloat16, found another type"),
    "int32 labels": ("labels", array((3,), "<i4"), NO_LABEL_TYPE),
    "unsigned labels": ("labels", array((3,), "<u8"), NO_LABEL_TYPE),
    "signed digest": ("digests", array((1, 16), "i1"), "expected uint8, found another type"),
    "compound": ("features", array(MAP, [("a", "<f2")]), "found another type"),
    "object paths": (
        "paths",
        lambda file, name: file.create_dataset(name, data=["a", "b", "c"], dtype=h5py.string_dtype()),
        "'paths': expected uint8, found another type",
    ),
    "object classes": (
        "classes",
        lambda file, name: file.create_dataset(name, data=["a", "b"], dtype=h5py.string_dtype()),
        "expected NUL-padded UTF-8 strings of fixed length, found another type",
    ),
    "references": (
        "labels",
        lambda file, name: file.create_dataset(name, (3,), h5py.ref_dtype),
        NO_LABEL_TYPE,
    ),
    "padded paths": ("paths", array((3,), text(5)), "'paths': expected uint8, found another type"),
    "ascii classes": ("classes", array((2,), "S5"), "expected NUL-padded UTF-8 strings"),
    "endless classes": ("classes", array((2,), text(65_536)), "expected NUL-padded UTF-8 strings"),
    "four sizes": ("features", array((3, 1, 2, 2), "<f2"), r"expected five sizes .*, found \(3, 1, 2, 2\)"),
    "six sizes": ("features", array((3, 1, 2, 2, 2, 1), "<f2"), "expected five sizes"),
    "too few labels": ("labels", array((2,), "<i8"), r"'labels': expected the shape \(3,\), found \(2,\)"),
    "label table": ("labels", array((3, 1), "<i8"), r"expected the shape \(3,\), found \(3, 1\)"),
    "int64 table": ("labels", array((3, 2), "<i8"), r"expected the shape \(3,\), found \(3, 2\)"),
    "int8 list": ("labels", array((3,), "i1"), r"'labels': expected the shape \(3, 2\), found \(3,\)"),
    "a class too many": ("labels", array((3, 3), "i1"), r"expected the shape \(3, 2\), found \(3, 3\)"),
    "an image too few": ("labels", array((2, 2), "i1"), r"expected the shape \(3, 2\), found \(2, 2\)"),
    "turned table": ("labels", array((2, 3), "i1"), r"expected the shape \(3, 2\), found \(2, 3\)"),
    "cube of labels": ("labels", array((3, 2, 1), "i1"), r"expected the shape \(3, 2\), found \(3, 2, 1\)"),
    "int16 table": ("labels", array((3, 2), "<i2"), NO_LABEL_TYPE),
    "unsigned table": ("labels", array((3, 2), "u1"), NO_LABEL_TYPE),
    "table of bool": ("labels", array((3, 2), np.bool_), NO_LABEL_TYPE),
    "big-endian table": ("labels", low_level((3, 2), h5t.STD_I8BE, EARLY), NO_LABEL_TYPE),
    "one label": ("labels", array((), "<i8"), "expected an array, found a single value or none"),
    "no label": (
        "labels",
        low_level(None, h5t.STD_I64LE, EARLY),
        "expected an array, found a single value or none",
    ),
    "too few paths": ("paths", array((5,), "u1"), r"'paths': expected 6 to 196,608 bytes of text, found .*5"),
    "endless paths": ("paths", array((196_609,), "u1"), r"'paths': expected 6 to 196,608 bytes of text"),
    "table of paths": ("paths", array((3, 6), "u1"), r"'paths': expected 6 to .* the shape \(3, 6\)"),
    "no class": ("classes", array((1, 1), text(5)), "'classes': expected a list of at least one name"),
    "two blocks": ("digests", array((2, 16), "u1"), r"'digests': expected the shape \(1, 16\)"),
    "short digest": ("header_digests", array((16,), "u1"), r"expected the shape \(48,\), found \(16,\)"),
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
        "paths": array((6,), "u1"),
        "image_digests": lambda file, name: file.__setitem__(name, file["digests"]),
        "features": array((1, 1, 2, 2, 2), "<f2"),
    }
    with pytest.raises(CacheError, match="expected bytes of its own, not shared with"):
        FeatureCache(build(tmp_path / "hostile.h5", one_row))


def test_features_that_aren_t_last_are_refused(tmp_path: Path) -> None:
    """A file could go on behind them unseen."""
    with pytest.raises(CacheError, match="'features': expected the last place in the file"):
        FeatureCache(build(tmp_path / "hostile.h5", {}, first="features"))


def test_no_hostile_name_reaches_the_terminal_raw(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = build(tmp_path / "hostile.h5", {"\x1b]0;x\x07\n": array((1,), "u1")})
    with pytest.raises(CacheError) as caught:
        FeatureCache(path)
    assert str(caught.value).isprintable()
    assert os.path.exists(path)
    assert capfd.readouterr() == ("", "")
