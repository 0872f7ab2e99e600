"""`python -m cache export`: its flags, and which format is which."""

import argparse
from pathlib import Path

from cache.errors import CacheError
from cache.exporting import hub_folder, numpy_folder
from cache.reader import FeatureCache
from cache.telling import watching

FORMATS = {"npy": numpy_folder.export, "datasets": hub_folder.export}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cache", type=Path, help="the file of a cache, as CACHE/train.h5")
    parser.add_argument("--out", type=Path, required=True, help="folder to be made")
    help_text = "npy: features.npy, labels.npy, paths.txt, classes.txt; datasets: as save_to_disk writes it"
    parser.add_argument("--format", choices=list(FORMATS), default="npy", help=f"{help_text} (default: npy)")


def export_features(given: argparse.Namespace) -> list[str]:
    """Make the folder, and give a line about it. Raises: CacheError."""
    if given.out.exists():
        raise CacheError(f"--out: {given.out} is there already; delete it or name another folder")
    cache = FeatureCache(given.cache)
    try:
        with watching(str(given.out), "written") as watch:
            FORMATS[given.format](cache, given.out, watch)
    except OSError as error:
        raise CacheError(f"{given.out}: can't be written: {error.strerror or error}") from error
    return [f"{given.out}: {len(cache):,} rows of {given.cache} as {given.format}"]
