"""Files of remote stores, by any driver of fsspec: s3://, gs://, hf://, https://, memory:// and so on.

A missing or forbidden file is the OSError that it is on a disk, with its URL; what only a store can lack (a
driver, credentials, a network) is a StoreError. Credentials are the driver's own affair: it takes them from
the environment and from its files, never from a URL.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import quote, unquote

from xxhash import xxh3_64_intdigest

from cache.drivers import REQUESTS, WEB, driver, scheme_of
from cache.errors import StoreError
from cache.retrying import CutShortError, retried

T = TypeVar("T")

UNKNOWN_TIME = 2**63 - 1
VERSIONS = "ETag", "etag", "VersionId", "generation", "blob_id", "md5Hash", "Content-MD5", "ino"
TIMES = "LastModified", "last_modified", "Last-Modified", "updated", "modified", "mtime", "created"
"""What drivers call a file's version and the time of its last change."""
TABLE = "name the images in a table beside them: csv:URL/labels.csv"
"""What helps where a web server lists no files."""


class Entry(NamedTuple):
    """A file or folder of a store."""

    url: str
    is_folder: bool
    size: int | None
    """Bytes; None where a listing doesn't say."""
    version: int
    """A number that is another one for other contents, as far as the store tells; 0 where it doesn't."""
    changed: int
    """Time of the last change (ns): 0 where only a version is known, UNKNOWN_TIME where neither is."""


def is_url(path: str) -> bool:
    """Whether a path is the URL of a store."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path) is not None


def plain_url(url: str) -> str:
    """A URL as it is shown and joined with paths: characters, where a web address has their percent signs.

    Raises: StoreError when it holds a password, which would be written into caches, or more than a place.
    """
    scheme, _, rest = url.partition("://")
    before, at, _ = rest.partition("/")[0].rpartition("@")
    if at and scheme != "github" and (":" in before or scheme in WEB):
        raise StoreError(
            f"{scheme}://{'*' * len(before)}{rest[len(before) :]}: expected no name and password in a URL, "
            "which is written into caches; set them where the driver looks for them, as in the environment"
        )
    if "::" in url or ("?" in url and scheme in WEB):
        raise StoreError(
            f"{re.split('[?]|::', url)[0]}: expected the place of a file or folder alone, found more "
            "behind it (? or ::)"
        )
    return unquote(url) if scheme in WEB else url


def read(url: str, start: int | None = None, end: int | None = None, size: int | None = None) -> bytes:
    """The bytes of a file, all of them or from `start` to `end`.

    size: how many are expected; a store that gives others is asked again.

    Raises: OSError naming the file, StoreError.
    """
    fs = driver(url)

    def ask() -> bytes:
        data = fs.cat_file(named_by_driver(fs, url), start=start, end=end)
        if size is not None and len(data) != size:
            raise CutShortError(f"expected {size:,} bytes, as the store says, {len(data):,} came")
        return data

    return retried(url, ask)


def info(url: str) -> Entry:
    """What is known of a file or folder. Raises: OSError naming it, StoreError."""
    fs = driver(url)
    return _entry(url, retried(url, lambda: fs.info(named_by_driver(fs, url))))


def entries(folder: str) -> list[Entry]:
    """What is in a folder, in any order. Raises: OSError naming it, StoreError."""
    fs, is_web, folder = driver(folder), scheme_of(folder) in WEB, folder.rstrip("/")
    try:
        listed = retried(folder, lambda: fs.ls(named_by_driver(fs, folder + "/" * is_web), detail=True))
    except OSError as error:
        if is_web:
            raise StoreError(
                f"{folder}/: can't be listed: {error.strerror}; check the URL, or {TABLE}"
            ) from error
        raise
    if not is_web:
        return [_entry(f"{folder}/{found['name'].rstrip('/').rpartition('/')[2]}", found) for found in listed]
    inside = {name: found for found in listed if (name := _linked(found["name"], folder))}
    if not inside:
        raise StoreError(f"{folder}/: the server lists no files there; check the URL, or {TABLE}")
    return [_entry(f"{folder}/{name}", found) for name, found in inside.items()]


def side_by_side(work: Callable[[str], T], urls: Sequence[str]) -> Iterator[T]:
    """Yield `work(url)` for each, in order, in as many threads as there may be requests."""
    pool = ThreadPoolExecutor(min(REQUESTS, len(urls) or 1))
    try:
        for at in range(0, len(urls), 64 * REQUESTS):  # millions at once would take memory
            yield from pool.map(work, urls[at : at + 64 * REQUESTS])
    finally:
        pool.shutdown(cancel_futures=True)


def named_by_driver(fs: Any, url: str) -> str:
    """What the driver calls a file."""
    if scheme_of(url) not in WEB:
        return fs._strip_protocol(url)
    scheme, _, rest = url.partition("://")
    server, slash, path = rest.partition("/")
    return f"{scheme}://{server}{slash}{quote(path)}"


def _linked(link: str, folder: str) -> str:
    """The name of a file or folder right in a web folder that a link on its page leads to; else nothing."""
    if "?" in link or "#" in link:
        return ""
    place = unquote(link.partition("://")[2]).rstrip("/")
    above, _, name = place.rpartition("/")
    return name if above == folder.partition("://")[2] else ""


def _entry(url: str, found: dict[str, Any]) -> Entry:
    size = found.get("size")
    said = next((f"{name} {found[name]}" for name in VERSIONS if found.get(name)), "")
    times = [_nanoseconds(found[name]) for name in TIMES if found.get(name)]
    return Entry(
        url=url,
        is_folder=found.get("type") == "directory",
        size=None if size is None else int(size),
        version=xxh3_64_intdigest(said.encode()) >> 1 if said else 0,
        changed=max(times, default=0 if said else UNKNOWN_TIME),
    )


def _nanoseconds(value: Any) -> int:
    """A time as a driver gives it, since 1970; UNKNOWN_TIME where it can't be understood."""
    try:
        if isinstance(value, str):
            value = parsedate_to_datetime(value) if "," in value else datetime.fromisoformat(value)
        if isinstance(value, datetime):
            value = (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
        return int(float(value) * 1e9)
    except (TypeError, ValueError, OverflowError):
        return UNKNOWN_TIME
