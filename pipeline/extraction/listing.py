"""The images of a dataset, written down by a command for the workers that it starts: it alone looks for them.

    what the splits are, as JSON │ paths │ sizes │ labels │ statuses │ paths ...     one behind the other

1e8 images take minutes to list on a disk, hours in a store, and more where every worker does it at once. The
file is a help and no more: a worker that doesn't find it lists the images by itself.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cache import Paths
from pipeline.datasets.base import ImageSplit
from pipeline.datasets.files import FileReader
from pipeline.engines.passport import mark_in

FIELDS = "dataset", "split", "classes", "ignored", "remarks", "val_rows"


@contextmanager
def listing(folder: Path, splits: Mapping[str, ImageSplit]) -> Iterator[Path | None]:
    """The file, in a folder that all workers see, until the end of the block; None where images are no files.

    Raises: OSError when it can't be written, DataError when an image is gone.
    """
    files = [(split, split.images) for split in splits.values() if type(split.images) is FileReader]
    if len(files) < len(splits):
        yield None
        return
    path = mark_in(folder.absolute())
    about = [
        {"base": reader.base, "bytes": len(split.paths.data)}
        | {name: getattr(split, name) for name in FIELDS}
        for split, reader in files
    ]
    try:
        with path.open("xb") as file:
            file.write(json.dumps(about).encode() + b"\n")
            for split, reader in files:
                file.write(split.paths.data)
                for array in (split.sizes, split.labels, reader.statuses()):
                    np.save(file, array)
        yield path
    finally:
        path.unlink(missing_ok=True)


def read_listing(path: Path) -> dict[str, ImageSplit] | None:
    """The splits that `listing` wrote, without boxes; None where there is no file, or it isn't whole."""
    try:
        with path.open("rb") as file:
            return {split.split: split for split in _splits(file)}
    except (OSError, ValueError, EOFError):
        return None


def _splits(file: BinaryIO) -> Iterator[ImageSplit]:
    for about in json.loads(file.readline()):
        base, paths = about.pop("base"), Paths.stored(file.read(about.pop("bytes")))
        sizes, labels, statuses = (np.load(file) for _ in range(3))
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about.items()}
        yield ImageSplit(
            **fields, paths=paths, sizes=sizes, labels=labels, images=FileReader(base, paths, statuses)
        )
