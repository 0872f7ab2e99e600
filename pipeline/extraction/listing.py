"""The images of a dataset, written down for several workers: one looks for them, the others read the list.

    what the splits are, as JSON │ paths │ sizes │ labels │ statuses │ paths ...     one behind the other

1e8 images take minutes to list on a disk, hours in a store, and more where every worker does it at once. A
command writes such a file for the workers that it starts, and `--shard list` writes CACHE/images.list for
those that something else starts. The file is a help and no more: a worker that doesn't find it lists the
images by itself.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cache import Paths
from pipeline.config import ExtractConfig
from pipeline.datasets.base import ImageSplit
from pipeline.datasets.files import FileReader
from pipeline.engines.passport import mark_in
from pipeline.errors import ConfigError
from pipeline.files import replacing
from pipeline.progress import say

LIST = "list"
"""What --shard says to write the list."""
FIELDS = "dataset", "split", "classes", "ignored", "remarks", "val_rows"
CHOSEN_BY = "dataset", "test_fraction", "split_seed", "label_separator", "label_column", "labels"
"""Settings that decide which images and labels there are."""


@contextmanager
def listing(folder: Path, splits: Mapping[str, ImageSplit]) -> Iterator[Path | None]:
    """The file, in a folder that all workers see, until the end of the block; None where images are no files.

    Raises: OSError when it can't be written, DataError when an image is gone.
    """
    if not _are_files(splits):
        yield None
        return
    path = mark_in(folder.absolute())
    try:
        with path.open("xb") as file:
            _write(file, splits, {})
        yield path
    finally:
        path.unlink(missing_ok=True)


def shared_path(config: ExtractConfig) -> Path:
    """Where the list is of workers that something else starts."""
    return config.cache_dir / "images.list"


def share_listing(config: ExtractConfig, splits: Mapping[str, ImageSplit]) -> None:
    """Write it. Raises: ConfigError when the images are no files; OSError, DataError as `listing`."""
    if not _are_files(splits):
        raise ConfigError(
            f"--shard: list is for datasets of files, found {config.dataset}; start the workers without it"
        )
    with replacing(path := shared_path(config)) as part, part.open("wb") as file:
        _write(file, splits, _settings(config))
    count = sum(map(len, splits.values()))
    say(f"{path}: {count:,} images, for workers with --shard R/N or env; the last of them removes it")


def shared_listing(config: ExtractConfig) -> Path | None:
    """The list, where there is one of these settings; says so."""
    path = shared_path(config)
    try:
        with path.open("rb") as file:
            settings = json.loads(file.readline())["settings"]
    except (OSError, ValueError, TypeError, KeyError):
        return None
    alike = settings == _settings(config)
    done = "the images are read from it" if alike else "of other settings, the images are looked for"
    say(f"{path}: {done}")
    return path if alike else None


def read_listing(path: Path) -> dict[str, ImageSplit] | None:
    """The splits that were listed, without boxes; None where there is no file, or it isn't whole."""
    try:
        with path.open("rb") as file:
            return {split.split: split for split in _splits(file)}
    except (OSError, ValueError, EOFError):
        return None


def asked_again(split: ImageSplit) -> ImageSplit:
    """A split of files that were listed, whose sizes and times of change are to be those of now."""
    images = split.images
    if not isinstance(images, FileReader):
        return split
    return dataclasses.replace(split, images=FileReader(images.base, images.paths))


def _are_files(splits: Mapping[str, ImageSplit]) -> bool:
    return all(type(split.images) is FileReader for split in splits.values())


def _settings(config: ExtractConfig) -> dict[str, Any]:
    return json.loads(json.dumps({name: getattr(config, name) for name in CHOSEN_BY}))


def _write(file: BinaryIO, splits: Mapping[str, ImageSplit], settings: Mapping[str, Any]) -> None:
    files = [(split, split.images) for split in splits.values() if isinstance(split.images, FileReader)]
    about = [
        {"base": reader.base, "bytes": len(split.paths.data)}
        | {name: getattr(split, name) for name in FIELDS}
        for split, reader in files
    ]
    file.write(json.dumps({"settings": settings, "splits": about}).encode() + b"\n")
    for split, reader in files:
        file.write(split.paths.data)
        for array in (split.sizes, split.labels, reader.statuses()):
            np.save(file, array)


def _splits(file: BinaryIO) -> Iterator[ImageSplit]:
    for about in json.loads(file.readline())["splits"]:
        base, paths = about.pop("base"), Paths.stored(file.read(about.pop("bytes")))
        sizes, labels, statuses = (np.load(file) for _ in range(3))
        if np.array_equal(sizes, statuses[:, 0]):
            sizes = statuses[:, 0]  # which takes no memory of its own
        labels = labels.copy()  # which no other array can change: a header takes it as it is
        labels.flags.writeable = False
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in about.items()}
        yield ImageSplit(
            **fields, paths=paths, sizes=sizes, labels=labels, images=FileReader(base, paths, statuses)
        )
