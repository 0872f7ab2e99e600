"""List the image files below a folder of classes, with one `stat` for each and nothing read."""

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterator

import numpy as np

from pipeline.datasets.base import ImageSplit, SplitName
from pipeline.datasets.files import FileReader
from pipeline.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
"""Suffixes of images, in upper or lower case; the contents are looked at when the file is read."""


@contextlib.contextmanager
def _in_one_line() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename}: can't be read: {error.strerror}") from error


@_in_one_line()
def scan(base: str, folder: str, split: SplitName) -> ImageSplit:
    """The images in the class folders of `base` + `folder`, with paths relative to `base`.

    Args:
        base: ends with a slash.
        folder: "" for `base` itself.
        split: the name of the result.

    Raises: DataError on fewer than two classes, a class without images, or a file that can't be read.
    """
    top = base + folder
    classes = subfolders(top)
    if len(classes) < 2:
        found = f"one: {classes[0]}" if classes else "none"
        raise DataError(f"{top}: expected a folder per class, at least two, found {found}")
    rows: list[tuple[str, int, int]] = []
    ignored = Counter(
        f"{_suffix(entry.name)} outside of the classes"
        for entry in _entries(top)
        if _is_image(entry.name) and not entry.is_dir()
    )
    for label, name in enumerate(classes):
        images, others = _images(os.path.join(top, name))
        ignored += others
        rows += [(_utf8(path[len(base) :]), size, label) for path, size in images]
    paths, sizes, labels = zip(*sorted(rows), strict=True)
    listed = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    said = ", ".join(f"{count} {name}" for name, count in listed)
    return ImageSplit(
        dataset="folder",
        split=split,
        classes=tuple(classes),
        paths=paths,
        sizes=np.array(sizes, np.int64),
        labels=np.array(labels, np.int64),
        images=FileReader(base, paths),
        ignored=(f"{folder or 'classes'}: {said}",) if said else (),
    )


@_in_one_line()
def subfolders(folder: str) -> list[str]:
    """The sorted names of the folders in a folder, without those that begin with a dot.

    Raises: DataError when it can't be read.
    """
    return sorted(_utf8(entry.name) for entry in _entries(folder) if entry.is_dir())


def _images(top: str) -> tuple[list[tuple[str, int]], Counter[str]]:
    """(path, size) of every image below `top`, and how many other files have which suffix."""
    images, others = [], Counter[str]()
    stack = [(top, frozenset[tuple[int, int]]())]
    while stack:
        folder, above = stack.pop()
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            raise DataError(f"{folder}: expected a folder, found a link to one that holds it; remove it")
        for entry in _entries(folder):
            if entry.is_dir():
                stack.append((entry.path, above | {here}))
            elif _is_image(entry.name):
                images.append((entry.path, _size(entry)))
            else:
                others[_suffix(entry.name)] += 1
    if not images:
        found = f"{others.total()} other files" if others else "no file"
        raise DataError(f"{top}: expected images ({' '.join(SUFFIXES)}), found {found}")
    return images, others


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _suffix(name: str) -> str:
    """A file's suffix as text that can be shown."""
    return ascii(os.path.splitext(name)[1].lower())[1:-1] or "without suffix"


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from (entry for entry in entries if not entry.name.startswith("."))


def _size(entry: os.DirEntry[str]) -> int:
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{entry.path}: expected a file, found a device, pipe or socket; remove it")
    return status.st_size


def _utf8(path: str) -> str:
    """The path itself. Raises: DataError for a name that no text file could hold."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{os.fsencode(path)!r}: the name is not UTF-8; rename it") from error
    return path
