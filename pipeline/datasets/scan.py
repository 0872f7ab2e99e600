"""List the image files below a folder of classes, with one `stat` for each and nothing read.

In a store, folders are listed side by side, and sizes are asked for only where the listing doesn't say them.
"""

import contextlib
import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from cache import Paths
from cache.remote import is_url, side_by_side
from pipeline.datasets.base import ImageSplit, SplitName
from pipeline.datasets.files import FileReader
from pipeline.datasets.litter import LITTER, is_litter
from pipeline.datasets.places import AnyEntry, FarEntry, listed, status_of, with_sizes
from pipeline.errors import DataError
from pipeline.progress import over
from pipeline.wording import shown, some

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
"""Suffixes of images, in upper or lower case; the contents are looked at when the file is read."""
KINDS = 12
"""Kinds of files that are left out, of which the number is said."""


@contextlib.contextmanager
def in_one_line() -> Iterator[None]:
    """Raises: DataError for an OSError inside, which names its file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{error.filename}: can't be read: {error.strerror}") from error


@in_one_line()
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
        inner = os.path.join(top, *classes)
        advice = f"; the classes are in it? Name {inner}" if classes and len(subfolders(inner)) > 1 else ""
        raise DataError(f"{top}: expected a folder per class, at least two, found {found}{advice}")
    ignored = Counter[str]()
    ignored.update(
        f"{suffix_of(entry.name)} outside of the classes"
        for entry in _entries(top, ignored)
        if is_image(entry.name) and not entry.is_dir()
    )
    order = sorted(range(len(classes)), key=lambda label: f"{classes[label]}/")  # of the paths
    statuses: list[NDArray[np.int64]] = []

    def paths_of() -> Iterator[str]:
        for files, status_n3, left_out in _below([os.path.join(top, classes[label]) for label in order]):
            statuses.append(status_n3)
            ignored.update(left_out)
            yield from (utf8(path[len(base) :]) for path in files)

    paths = Paths(paths_of())
    unused = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    said = some((f"{count:,} {name}" for name, count in unused), KINDS)
    if empty := [classes[label] for label, found in zip(order, statuses, strict=True) if not len(found)]:
        raise DataError(
            f"{top}: expected images ({' '.join(SUFFIXES)}) in the folder of each class, found none in "
            f"{some(map(shown, sorted(empty)))} (not used: {said or 'nothing'}); put images into each, or "
            "remove these folders"
        )
    status_N3 = with_sizes(base, paths, np.concatenate(statuses))
    labels = np.repeat(np.array(order, np.int64), [len(status_n3) for status_n3 in statuses])
    labels.flags.writeable = False
    return ImageSplit(
        dataset="folder",
        split=split,
        classes=tuple(classes),
        paths=paths,
        sizes=status_N3[:, 0],
        labels=labels,
        images=FileReader(base, paths, status_N3),
        ignored=(f"{folder or 'classes'}: {said}",) if said else (),
    )


@in_one_line()
def subfolders(folder: str, left_out: Counter[str] | None = None) -> list[str]:
    """The sorted names of the folders in a folder, without hidden ones and litter, which are counted.

    Raises: DataError when it can't be read.
    """
    return sorted(utf8(entry.name) for entry in _entries(folder, left_out) if entry.is_dir())


def _below(folders: Sequence[str]) -> Iterable[tuple[list[str], NDArray[np.int64], Counter[str]]]:
    """What `images_below` gives for each folder, and counts in it."""

    def below(folder: str) -> tuple[list[str], NDArray[np.int64], Counter[str]]:
        left_out = Counter[str]()
        return *images_below(folder, left_out), left_out

    if not is_url(folders[0]):
        return map(below, folders)
    return over(
        side_by_side(below, folders), f"listing {os.path.dirname(folders[0])}", "folders", len(folders)
    )


def images_below(top: str, ignored: Counter[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The sorted paths of the images below `top`, and the `status_of` each, (n, 3), for `with_sizes`; counts
    other suffixes."""
    images, statuses = list[str](), array("q")
    stack = [(top, frozenset[tuple[int, int]]())]
    while stack:
        folder, above = stack.pop()
        here = _number(folder)
        if here in above:
            raise DataError(f"{folder}: expected a folder, found a link to one that holds it; remove it")
        for entry in _entries(folder, ignored):
            if entry.is_dir():
                stack.append((entry.path, above | {here}))
            elif is_image(entry.name):
                images.append(entry.path)
                statuses.extend(_status(entry))
            else:
                ignored[suffix_of(entry.name)] += 1
    order = sorted(range(len(images)), key=images.__getitem__)
    return [images[i] for i in order], np.frombuffer(statuses, np.int64).reshape(-1, 3)[order]


def _number(folder: str) -> tuple[int, int]:
    """Tells a folder on a disk from all others; a store has no links that could lead back to one."""
    if is_url(folder):
        return 0, hash(folder)
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def is_image(name: str) -> bool:
    """Whether a file is taken for an image, by its suffix."""
    return name.lower().endswith(SUFFIXES)


def suffix_of(name: str) -> str:
    """A file's suffix as text that can be shown."""
    return ascii(os.path.splitext(name)[1].lower())[1:-1] or "without suffix"


def _entries(folder: str, left_out: Counter[str] | None = None) -> Iterator[AnyEntry]:
    """What is in a folder, but hidden files and litter, which are counted by name or kind."""
    for entry in listed(folder):
        if not entry.name.startswith(".") and not is_litter(entry.name):
            yield entry
        elif left_out is not None:
            left_out[_kind(entry)] += 1


def _kind(entry: AnyEntry) -> str:
    """What to call a file or folder that is left out, as text that can be shown."""
    name = ascii(entry.name)[1:-1]
    if entry.is_dir():
        return f"{name}/"
    return name if name.casefold() in LITTER else f"hidden {suffix_of(name)}"


def _status(entry: AnyEntry) -> tuple[int, int, int]:
    if isinstance(entry, FarEntry):
        return status_of(entry.entry)
    status = entry.stat()
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{entry.path}: expected a file, found a device, pipe or socket; remove it")
    return status_of(status)


def utf8(path: str) -> str:
    """The path itself. Raises: DataError for a name that no text file could hold."""
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{os.fsencode(path)!r}: the name is not UTF-8; rename it") from error
    return path
