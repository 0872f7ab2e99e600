"""`python -m cache fetch`: a published cache to a folder, checked by its digests."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from cache.errors import CacheError
from cache.fetching import fetch_split, places_in
from cache.remote import is_url, plain_url
from cache.splits import CACHE_SUFFIXES
from cache.staging import in_one_line, locked, tell_of
from cache.telling import watching

SPLITS = "train", "test"


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "origin",
        help="URL or path of a cache: a folder, the .h5 file of a split, or its .json of several files",
    )
    parser.add_argument(
        "--to", type=Path, metavar="FOLDER", help="where to keep it (default: artifacts/cache/NAME)"
    )
    parser.add_argument(
        "--digest",
        nargs="+",
        default=[],
        type=_digest,
        help="what its splits must have: the fingerprint that `info` prints, or the SHA-256 of the .h5 or "
        ".json file (default: whatever it has)",
    )


def fetch(given: argparse.Namespace) -> Iterator[str]:
    """Fetch the splits of a cache; gives a line about each. Raises: CacheError, StoreError."""
    origin = plain_url(given.origin) if is_url(given.origin) else given.origin
    origin = origin.rstrip("/")
    is_split = origin.endswith(CACHE_SUFFIXES)
    with in_one_line(origin):
        places = [origin] if is_split else places_in(origin, SPLITS)
        if not places:
            expected = " or ".join(f"{name}{suffix}" for name in SPLITS for suffix in CACHE_SUFFIXES)
            raise CacheError(f"{origin}: expected a cache with {expected}, found none of them")
        above = origin.rpartition("/")[0] if is_split else origin
        folder = given.to or Path("artifacts/cache") / (above.rpartition("/")[2] or "fetched")
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            for place in places:
                tell_of(place, folder)
                with watching(place, "fetched") as watch:
                    found = fetch_split(place, folder, digests=given.digest, watch=watch)
                state = "fetched and good" if found.is_new else "there already"
                yield f"{found.path}: {state} ({found.nbytes / 1e6:,.1f} MB, fingerprint {found.fingerprint})"


def _digest(word: str) -> str:
    """Raises: ArgumentTypeError."""
    if not re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", word.lower()):
        raise argparse.ArgumentTypeError(f"expected 32 or 64 hexadecimal digits, found {word[:70]!r}")
    return word.lower()
