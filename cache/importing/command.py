"""`python -m cache import`: its flags, and which kind of file is which."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from cache.dtypes import DTYPES
from cache.errors import CacheError
from cache.importing.labels import read
from cache.importing.numpy_files import open_folder, open_npy, open_npz
from cache.importing.slides import open_slides
from cache.importing.source import FEATURES, LABELS, Source
from cache.importing.torch_files import open_pt
from cache.importing.write import write
from cache.manifest import SUFFIX
from cache.splits import split_path
from cache.telling import watching

KINDS: dict[str, Callable[[Path, str | None, str | None], Source]] = {
    ".npy": open_npy,
    ".npz": open_npz,
    ".pt": open_pt,
    ".pth": open_pt,
}


FLAGS: dict[str, dict[str, Any]] = {
    "--cache": {"type": Path, "required": True, "help": "folder of the cache, for train.h5 and test.h5"},
    "--split": {
        "choices": ("train", "test"),
        "help": "which of the two to write (default: those that the table names, or train)",
    },
    "--labels": {
        "type": Path,
        "help": "labels beside the features: a .npy file, or a CSV file with a line for each row, in order "
        "(label, path), or for each slide (slide, label, split)",
    },
    "--classes": {
        "nargs": "+",
        "help": "names of the classes in the order of their numbers (default: those in the file, or numbers)",
    },
    "--val-rows": {"type": int, "help": "how many of the last rows to validate on (default: none)"},
    "--features-key": {"help": f"what the features are called in the file (default: {', '.join(FEATURES)})"},
    "--labels-key": {"help": f"what the labels are called in the file (default: {', '.join(LABELS)})"},
    "--made-by": {"help": "what made the features, in words, in which train.h5 and test.h5 have to agree"},
    "--dtype": {"choices": list(DTYPES), "help": "type of the stored numbers (default: as they are)"},
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    kinds = (
        f"a file ({', '.join(KINDS)}), a folder of .h5 files with one for each slide, or an exported folder"
    )
    parser.add_argument("source", type=Path, help=kinds)
    for flag, options in FLAGS.items():
        parser.add_argument(flag, **options)


def import_features(given: argparse.Namespace) -> list[str]:
    """Make the caches, and give a line about each. Raises: CacheError."""
    sources, unused = _sources(given)
    lines = [f"not used: {len(unused)} slides, first {unused[0]}"] if unused else []
    for split, source in sources.items():
        path = given.cache / f"{split}.h5"
        if (there := split_path(given.cache, split)).suffix == SUFFIX:
            raise CacheError(f"--cache: {there} is there, another cache of this split; name another folder")
        with watching(str(path), "written") as watch:
            line = write(source, path, split=split, made_by=given.made_by, dtype=given.dtype, watch=watch)
        lines.append(line)
    return lines


def _sources(given: argparse.Namespace) -> tuple[dict[str, Source], list[str]]:
    """What is to be written, by split, and what isn't used."""
    path: Path = given.source
    if path.is_dir() and not (path / "features.npy").exists():
        return _slides(given)
    kind = open_folder if path.is_dir() else KINDS.get(path.suffix.lower())
    if kind is None:
        raise CacheError(
            f"{path}: expected a file {', '.join(KINDS)} or a folder of slides, found another kind"
        )
    source = kind(path, given.features_key, given.labels_key)
    if given.labels:
        labels, paths = read(given.labels)
        source = replace(source, labels=labels, paths=paths or source.paths)
    source = replace(source, classes=given.classes or source.classes, val_rows=given.val_rows or 0)
    return {given.split or "train": source}, []


def _slides(given: argparse.Namespace) -> tuple[dict[str, Source], list[str]]:
    if given.labels is None:
        raise CacheError(
            f"{given.source}: expected --labels, a CSV file with the columns slide, label and split"
        )
    sources, unused = open_slides(given.source, given.labels, given.features_key)
    for flag in ("val_rows", "labels_key"):
        if getattr(given, flag) is not None:
            raise CacheError(f"--{flag.replace('_', '-')}: has no place with slides; the table says it")
    if given.split:
        if set(sources) != {"train"}:
            raise CacheError(f"--split: {given.labels} has splits of its own; leave it out")
        sources = {given.split: sources["train"]}
    order = given.classes
    return {
        name: replace(source, classes=order or source.classes) for name, source in sources.items()
    }, unused
