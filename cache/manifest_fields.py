"""Fields of JSON that anyone may have written: each is given as what it shall be, or refused by name."""

import re
from typing import Any, NoReturn

from cache.errors import CacheError

_MAX_SIZE = 1 << 62


def refuse(what: str, expected: str, found: str) -> NoReturn:
    """Raises: CacheError."""
    raise CacheError(f"{what}: expected {expected}, found {found}")


def exactly(what: str, fields: Any, wanted: set[str]) -> None:
    """Raises: CacheError unless it is an object with these fields and no others."""
    if not isinstance(fields, dict):
        refuse(what, "an object", type(fields).__name__)
    if odd := sorted(fields.keys() ^ wanted):
        refuse(what, f"the fields {', '.join(sorted(wanted))}", f"{odd[0]!r:.60} missing or too many")


def array(what: str, value: Any) -> list[Any]:
    """Raises: CacheError on anything else."""
    if not isinstance(value, list):
        refuse(what, "an array", type(value).__name__)
    return value


def whole(what: str, value: Any, least: int) -> int:
    """An integer of at least that. Raises: CacheError, also on one of more than 62 bits."""
    if type(value) is not int or not least <= value < _MAX_SIZE:
        refuse(what, f"an integer of at least {least}", repr(value)[:60])
    return value


def hexadecimal(what: str, value: Any, digits: int) -> str:
    """Raises: CacheError on another number of digits, or on capital ones."""
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{digits}}}", value):
        refuse(what, f"{digits} hexadecimal digits", repr(value)[:60])
    return value


def plain_name(what: str, name: Any) -> str:
    """A name of a file in the manifest's own folder. Raises: CacheError on any other."""
    if not isinstance(name, str):
        refuse(what, "the name of a file", type(name).__name__)
    if (
        name in ("", ".", "..")
        or re.search(r"[/\\:\x00-\x1f\x7f]", name)
        or not name.isprintable()
        or len(name.encode()) > 255
    ):
        refuse(what, "a plain name of a file in the manifest's folder", repr(name)[:80])
    return name
