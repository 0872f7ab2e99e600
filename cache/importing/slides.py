"""A folder of HDF5 files as pathology tools write them: one for each slide, a row for each patch.

    features   (N, D), (1, N, D) or (N, C, H, W)          coords   (N, 2) or (1, N, 2), if there are any

A table says the label of each slide, which is that of its patches, and may say its split:

    slide,label,split
    TCGA-3L-AA1B,tumor,train

Rows are called SLIDE#X,Y by their coordinates, or SLIDE#0, SLIDE#1 and on where these repeat.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from numpy.typing import NDArray

from cache.errors import CacheError
from cache.importing.labels import LABEL, column, read_table
from cache.importing.numpy_files import floating
from cache.importing.source import FEATURES, Source, chosen, map_shape

NAMES = "slide", "slide_id", "filename", "file", "name", "wsi", "image", "path"
SUFFIXES = ".h5", ".hdf5", ".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".pt"
"""What may follow a slide's name in the table."""
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation"), "val"
)


class Slide(NamedTuple):
    """A file: its patches and their names."""

    path: Path
    label: str
    key: str
    shape: tuple[int, int, int, int, int]
    """(N, V, C, H, W)"""
    dtype: str
    names: list[str]


def open_slides(folder: Path, table: Path, features_key: str | None) -> tuple[dict[str, Source], list[str]]:
    """The patches of each split, "train" alone where the table has no splits, and what isn't used, in words.

    Raises: CacheError naming the file, or the slide without one.
    """
    files = {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.h5"))
    }
    if not files:
        raise CacheError(f"{folder}: expected features.npy, or a .h5 file for each slide, found none")
    lines = read_table(table)
    name, label = column(lines, NAMES, table), column(lines, LABEL, table)
    parts: dict[str, list[Slide]] = {"train": [], "val": [], "test": []}
    unused = []
    for line in lines:
        slide = _found(line[name], files, folder, table)
        opened = _open(files.pop(slide), slide, line[label], features_key)
        if opened is None:
            unused.append(f"{slide}, which has no patches")
        else:
            parts[_split(line, table)].append(opened)
    unused += [f"{slide}, which {table} doesn't name" for slide in files]
    if not parts["test"]:
        parts["test"], parts["val"] = parts["val"], []
    classes = sorted({slide.label for part in parts.values() for slide in part})
    sources = {}
    for split, val in (("train", parts["val"]), ("test", [])):
        if slides := [*parts[split], *val]:
            sources[split] = _source(folder, slides, sum(slide.shape[0] for slide in val), classes)
    return sources, unused


def _source(folder: Path, slides: Sequence[Slide], val_rows: int, classes: Sequence[str]) -> Source:
    first = slides[0]
    for slide in slides:
        if (slide.shape[1:], slide.dtype) != (first.shape[1:], first.dtype):
            raise CacheError(
                f"{slide.path}: expected features like those of {first.path}, {first.dtype} of the shape "
                f"{first.shape[2:]}, found {slide.dtype} of {slide.shape[2:]}"
            )
    ends = np.cumsum([slide.shape[0] for slide in slides])

    def read(rows: range) -> NDArray[np.floating]:
        return np.concatenate(list(_pieces(slides, ends, rows)))

    return Source(
        name=str(folder),
        files=[slide.path for slide in slides],
        shape=(int(ends[-1]), *first.shape[1:]),
        dtype=first.dtype,
        labels=np.repeat([slide.label for slide in slides], [slide.shape[0] for slide in slides]),
        classes=classes,
        paths=[name for slide in slides for name in slide.names],
        val_rows=val_rows,
        read=read,
    )


def _pieces(slides: Sequence[Slide], ends: NDArray[np.int64], rows: range) -> Iterator[NDArray[np.floating]]:
    for number in range(int(np.searchsorted(ends, rows.start, "right")), len(slides)):
        slide, end = slides[number], int(ends[number])
        start = end - slide.shape[0]
        if start >= rows.stop:
            return
        piece = slice(max(rows.start - start, 0), min(rows.stop, end) - start)
        try:
            with h5py.File(slide.path) as file:
                data = file[slide.key]
                found = data[0, piece] if data.ndim == 3 else data[piece]  # type: ignore[index, union-attr]
        except (OSError, ValueError, KeyError) as error:
            raise CacheError(f"{slide.path}: can't be read: {error}") from error
        yield np.asarray(found).reshape(-1, *slide.shape[1:])


def _open(path: Path, name: str, label: str, features_key: str | None) -> Slide | None:
    """None where it has no patches."""
    try:
        with h5py.File(path) as file:
            key = chosen(list(file), FEATURES, features_key, "--features-key", str(path))
            data, coords = file[key], file.get("coords")
            if not isinstance(data, h5py.Dataset):
                raise CacheError(f"{path}: expected an array called {key}, found a group")
            shape = data.shape[1:] if data.ndim == 3 and data.shape[0] == 1 else data.shape
            if shape[:1] == (0,):
                return None
            full = map_shape(shape, str(path))
            places = coords[()].reshape(-1, 2) if isinstance(coords, h5py.Dataset) else None
            dtype = floating(data.dtype, str(path))
    except (OSError, ValueError) as error:
        raise CacheError(f"{path}: expected an HDF5 file with features: {error}") from error
    if places is not None and len(places) != full[0]:
        raise CacheError(f"{path}: expected coords for each of {full[0]:,} patches, found {len(places):,}")
    names = [f"{name}#{x},{y}" for x, y in places.tolist()] if places is not None else []
    if len(set(names)) < full[0]:
        names = [f"{name}#{i}" for i in range(full[0])]
    return Slide(path, label, key, full, dtype, names)


def _found(written: str, files: dict[str, Path], folder: Path, table: Path) -> str:
    bare = Path(written)
    for name in (written, bare.with_suffix("").as_posix() if bare.suffix.lower() in SUFFIXES else written):
        if name in files:
            return name
    raise CacheError(
        f"{table}: expected slides of {folder}, each once, found {written!r}, which has no file there"
    )


def _split(line: dict[str, str], table: Path) -> str:
    said = line.get("split", "train")
    if said.lower() not in SPLITS:
        raise CacheError(f"{table}: column split: expected train, val or test, found {said!r}")
    return SPLITS[said.lower()]
