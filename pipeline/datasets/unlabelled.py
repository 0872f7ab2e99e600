"""Photos without labels, to predict on: files, folders with all that is below them, and patterns.

    photos/cat.jpg   photos   'photos/**/*.png'   s3://bucket/photos

What is named first comes first; the images of a folder or a pattern are sorted by path, in code-point order.
In folders and patterns a file's suffix says whether it is an image, hidden files and litter are left out, and
links are followed; a file that is named alone is taken whatever its suffix. Each image comes once.
"""

import glob
import os
import re
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from cache import Paths
from cache.remote import info, is_url
from pipeline.datasets.base import ImageSplit
from pipeline.datasets.files import FileReader
from pipeline.datasets.litter import is_litter, litter_in
from pipeline.datasets.places import place, status_of, with_sizes
from pipeline.datasets.scan import (
    KINDS,
    SUFFIXES,
    images_below,
    in_one_line,
    is_image,
    suffix_of,
    utf8,
)
from pipeline.errors import DataError
from pipeline.wording import shown, some

Found = Iterator[tuple[str, Sequence[int]]]
"""The path and the `status_of` each image."""


@in_one_line()
def photos(specs: Sequence[str]) -> ImageSplit:
    """A split of images without labels: `classes` is empty and `labels` (N, 0). Nothing is decoded.

    Args:
        specs: files, folders and patterns (`*`, `?`, `[a-z]`, and `**` for any folders between), or files and
            folders of stores. The images' paths begin as these do.

    Raises: DataError when a file or folder is missing or can't be read, a pattern matches nothing, or there
        is no image in all of them.
    """
    ignored, paths, statuses = Counter[str](), list[str](), array("q")
    seen, far = set[str](), [spec for spec in specs if is_url(spec)]
    if 0 < len(far) < len(specs):
        raise DataError(
            f"{far[0]}: expected photos in stores alone or on disks alone, found both; predict twice"
        )
    for spec in specs:
        for path, status in _named(place(spec), ignored):
            if len(specs) > 1:
                if (absolute := os.path.abspath(path)) in seen:
                    continue
                seen.add(absolute)
            paths.append(utf8(path))
            statuses.extend(status)
    unused = some((f"{count:,} {name}" for name, count in ignored.most_common()), KINDS)
    if not paths:
        raise DataError(
            f"{some(map(shown, specs))}: expected images ({' '.join(SUFFIXES)}), found none "
            f"(not used: {unused or 'nothing'})"
        )
    status_N3 = with_sizes("", paths, np.array(statuses, np.int64).reshape(-1, 3))
    kept = Paths(paths)
    return ImageSplit(
        dataset="photos",
        split="test",
        classes=(),
        paths=kept,
        sizes=status_N3[:, 0].copy(),
        labels=np.zeros((len(kept), 0), np.int8),
        images=FileReader("", kept, status_N3),
        ignored=(f"photos: {unused}",) if unused else (),
    )


def _named(spec: str, ignored: Counter[str]) -> Found:
    """The images that one of the user's words means."""
    if is_url(spec):
        yield from _far(spec, ignored)
    elif os.path.lexists(spec):  # names may hold [ and *
        yield from _at(spec, ignored)
    elif not glob.has_magic(spec):
        raise DataError(f"{shown(spec)}: expected a photo, a folder or a pattern, found no such file")
    elif matched := sorted(glob.glob(spec, recursive=True)):
        plain = re.split(r"[*?[]", spec)[0]
        yield from _matched(matched, plain[: plain.rfind("/") + 1], ignored)
    else:
        raise DataError(f"{shown(spec)}: expected a pattern that matches photos or folders, found no match")


def _far(url: str, ignored: Counter[str]) -> Found:
    """The image at a URL, by its suffix, or all of them below it."""
    if glob.has_magic(url):
        raise DataError(f"{url}: expected a file or folder of a store, found a pattern; name the folder")
    if is_image(url):
        yield url, status_of(info(url))
    else:
        files, status_n3 = images_below(url, ignored)
        yield from zip(files, status_n3.tolist(), strict=True)


def _matched(paths: Iterable[str], root: str, ignored: Counter[str]) -> Found:
    """The images among what a pattern matched below `root`, perhaps a folder and what is in it."""
    seen = set[str]()
    for path in paths:
        if litter := litter_in(path.removeprefix(root)):
            ignored[litter] += 1
        elif not is_image(path) and not os.path.isdir(path):
            ignored[suffix_of(path)] += 1
        else:
            yield from (
                found for found in _at(path, ignored) if found[0] not in seen and not seen.add(found[0])
            )


def _at(path: str, ignored: Counter[str]) -> Found:
    """The image at a path, or all of them below it."""
    path = path.rstrip("/") or "/"
    if is_litter(os.path.basename(path)):  # a shell's * names it too
        ignored[os.path.basename(path)] += 1
    elif os.path.isdir(path):
        files, status_n3 = images_below(path, ignored)
        if not files:
            ignored[f"folder without images, {shown(path)}"] += 1
        yield from zip((file.removeprefix("./") for file in files), status_n3.tolist(), strict=True)
    else:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{shown(path)}: expected a photo, found a device, pipe or socket")
        yield path.removeprefix("./"), status_of(status)
