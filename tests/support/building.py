"""Build HDF5 files of the format's structure, with any dataset changed, and read them: HDF5's own calls."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5p, h5s  # pyright: ignore[reportAttributeAccessIssue]

Maker = Callable[[h5py.File, str], object]


@contextmanager
def datasets(path: Path) -> Iterator[dict[str, Any]]:
    """What h5py finds in a file, which stays open for so long."""
    with h5py.File(path) as file:
        yield dict(file.items())


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
    "paths": array((18,), "u1"),
    "classes": array((2,), text(5)),
    "provenance": array((9,), "u1"),
    "header_digests": array((48,), "u1"),
    "digests": array((1, 16), "u1"),
    "image_digests": array((3, 16), "u1"),
    "features": array((3, 1, 2, 2, 2), "<f2"),
}


MARK = np.bytes_(b"ten-crop-cache/1")


def build(path: Path, change: Mapping[str, Maker | None], mark: Any = MARK, first: str = "labels") -> Path:
    """A file of the right structure but for the datasets changed; None leaves one out, `first` leads."""
    with h5py.File(path, "w", libver=("v108", "latest")) as file:
        if mark is not None:
            file.attrs["format"] = mark
        for name, maker in ({first: HONEST[first]} | HONEST | dict(change)).items():
            if maker:
                maker(file, name)
    return path
