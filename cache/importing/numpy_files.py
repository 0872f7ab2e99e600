"""Arrays of numpy: .npy files, mapped; .npz files, a piece at a time; and folders that `export` wrote."""

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.importing.source import CLASSES, FEATURES, LABELS, PATHS, Source, chosen, map_shape, optional


def open_npy(path: Path, features_key: str | None, labels_key: str | None) -> Source:
    """The features in a .npy file; labels come from another. Raises: CacheError."""
    array = load(path)
    shape = map_shape(array.shape, str(path))
    return Source(
        name=str(path),
        files=[path],
        shape=shape,
        dtype=floating(array.dtype, str(path)),
        labels=None,
        read=lambda rows: array[rows.start : rows.stop].reshape(-1, *shape[1:]),
    )


def open_folder(path: Path, features_key: str | None, labels_key: str | None) -> Source:
    """What `python -m cache export --format npy` wrote. Raises: CacheError."""
    names = {name: path / f"{name}.txt" for name in ("paths", "classes")}
    texts = {name: _lines(file) for name, file in names.items()}
    source = open_npy(path / "features.npy", None, None)
    files = [path / "features.npy", path / "labels.npy", *names.values()]
    return replace(source, name=str(path), files=files, labels=load(path / "labels.npy"), **texts)


def open_npz(path: Path, features_key: str | None, labels_key: str | None) -> Source:
    """Features and labels in a .npz file, with `classes` and `paths` if it has them. Raises: CacheError."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise CacheError(f"{path}: expected a .npz file, found another")
        key = chosen(file.files, FEATURES, features_key, "--features-key", str(path))
        names = [name for name in LABELS if name in file.files]
        label = (
            chosen(file.files, LABELS, labels_key, "--labels-key", str(path)) if labels_key or names else None
        )
        labels = file[label] if label else None
        classes, paths = optional(file, CLASSES), optional(file, PATHS)
        stream = zipfile.ZipFile(path).open(f"{key}.npy")  # noqa: SIM115 (read from later on)
        found, dtype, start = _header(stream, f"{path}, {key}")
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise CacheError(f"{path}: expected a .npz file of plain arrays: {_short(error)}") from error
    shape = map_shape(found, str(path))
    return Source(
        name=str(path),
        files=[path],
        shape=shape,
        dtype=floating(dtype, str(path)),
        labels=labels,
        classes=classes,
        paths=paths,
        read=partial(_read, stream, dtype, start, shape, f"{path}, {key}"),
    )


def load(path: Path) -> NDArray[Any]:
    """An array in a .npy file, mapped. Raises: CacheError, also for pickled objects, which could run code."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise CacheError(f"{path}: expected a .npy file of a plain array: {_short(error)}") from error
    if not isinstance(array, np.ndarray):
        raise CacheError(f"{path}: expected a .npy file, found a .npz file")
    return array


def floating(dtype: np.dtype, name: str) -> str:
    """The name of a type of floating-point numbers. Raises: CacheError on any other."""
    if dtype.kind != "f" or dtype.itemsize > 8:
        raise CacheError(f"{name}: features: expected floating-point numbers, found {dtype}; convert them")
    return dtype.newbyteorder("=").name


def _header(stream: IO[bytes], name: str) -> tuple[Sequence[int], np.dtype, int]:
    """Shape, type and the place of the first number of an array in a stream."""
    readers: dict[tuple[int, int], Callable[..., tuple[Any, bool, np.dtype]]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }
    version = npy.read_magic(stream)
    if version not in readers:
        raise CacheError(f"{name}: expected a plain array, found one with named fields")
    shape, is_fortran, dtype = readers[version](stream)
    if dtype.hasobject:
        raise CacheError(f"{name}: expected numbers, found Python objects, which are pickled; convert them")
    if is_fortran:
        raise CacheError(f"{name}: expected rows one after the other; save numpy.ascontiguousarray of it")
    return shape, dtype, stream.tell()


def _read(
    stream: IO[bytes], dtype: np.dtype, start: int, shape: Sequence[int], name: str, rows: range
) -> NDArray[np.floating]:
    size = int(np.prod(shape[1:])) * dtype.itemsize
    try:
        stream.seek(start + rows.start * size)
        data = stream.read(len(rows) * size)
        return np.frombuffer(data, dtype).reshape(len(rows), *shape[1:])
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise CacheError(f"{name}: damaged: {_short(error)}") from error


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise CacheError(f"{path}: expected a text file, a name in each line: {error}") from error


def _short(error: Exception) -> str:
    if "Object arrays" in str(error):
        return "it holds Python objects; save names as text, numpy.asarray(names, dtype=str)"
    return " ".join(str(error).split())[:200]
