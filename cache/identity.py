"""Compare what caches were made from: canonical JSON, the key over it, and where two identities differ."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cache.errors import CacheError

_ABSENT = object()


def canonical(value: Any) -> bytes:
    """JSON with one spelling for each value (FORMAT.md §3).

    Raises: CacheError naming the field that JSON can't hold without changing it.
    """
    if problem := next(_problems(value, ""), None):
        raise CacheError(f"cache header: {problem}")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def key(value: Any) -> str:
    """The SHA-256 of a value's canonical JSON, in hexadecimal."""
    return hashlib.sha256(canonical(value)).hexdigest()


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Every field that differs, as `dotted.name: old → new`, values shortened; sorted by name."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: list[str] = []
        for k in sorted(old.keys() | new.keys()):
            found += differences(old.get(k, _ABSENT), new.get(k, _ABSENT), f"{name}.{k}" if name else k)
        return found
    was, now = _text(old), _text(new)
    if was == now:
        return []
    return [f"{name}: {_shorten(was, now)} → {_shorten(now, was)}"]


def with_flags(fields: Sequence[str], flags: Mapping[str, str]) -> list[str]:
    """`differences`, each with the flag that sets its field, where there is one."""
    names = [field.partition(":")[0] for field in fields]
    return [f"{f} ({flags[n]})" if n in flags else f for n, f in zip(names, fields, strict=True)]


def first_difference(old: Sequence[str], new: Sequence[str]) -> str:
    """Where two lists of paths part: `row 17: a.png → b.png`."""
    row = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    was = old[row] if row < len(old) else "absent"
    now = new[row] if row < len(new) else "absent"
    return f"paths: row {row}: {was} → {now}"


def _problems(value: Any, name: str) -> Iterator[str]:
    """Name the parts of a value that JSON would change or refuse."""
    here = name or "the value"
    if isinstance(value, dict):
        for k, v in value.items():
            if type(k) is not str:
                yield f"{here} has the field name {k!r}; names are strings"
            yield from _problems(v, f"{name}.{k}" if name else str(k))
    elif isinstance(value, list | tuple):
        for i, v in enumerate(value):
            yield from _problems(v, f"{name}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield f"{here} is {value}; numbers are finite"
    elif value is not None and type(value) not in (str, int, float, bool):
        yield f"{here} is a {type(value).__name__}; expected JSON: text, numbers, booleans, lists, dicts"


def _text(value: Any) -> str:
    return "absent" if value is _ABSENT else canonical(value).decode()


def _shorten(text: str, other: str, length: int = 40) -> str:
    """At most about `length` characters, around the place where `other` differs."""
    if len(text) <= length:
        return text
    same = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), len(other))
    start = max(0, min(same - 8, len(text) - length))
    return ("…" if start else "") + text[start : start + length] + ("…" if start + length < len(text) else "")
