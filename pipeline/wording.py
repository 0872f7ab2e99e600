"""Words in messages: lists cut short, the nearest of some names, how the command line spells a field."""

import difflib
import re
from collections.abc import Iterable
from typing import Any


def one_of(choices: Iterable[str], found: Any) -> str:
    """A refusal that lists the choices and names the nearest: "expected one of a, b, found 'x'"."""
    return f"expected one of {', '.join(choices)}, found {short(found)}{did_you_mean(found, choices)}"


def did_you_mean(word: Any, known: Iterable[str]) -> str:
    """A question to end a refusal, such as `; did you mean --dataset?`; nothing if no known word is near."""
    near = difflib.get_close_matches(str(word).lower(), list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def some(names: Iterable[str], count: int = 5) -> str:
    """The first of some names for a message, and how many more there are: "a, b, c and 7 more"."""
    names = list(names)
    more = f" and {len(names) - count:,} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def shown(name: str) -> str:
    """A name for a message: as it is, or in quotes where spaces or unprintable characters would be missed."""
    return name if name.isprintable() and " ".join(name.split()) == name else repr(name)


def flag(field: str) -> str:
    """The command line's name of a field: `weight_decay` → `--weight-decay`."""
    return "--" + field.replace("_", "-")


def short(value: Any) -> str:
    """A value in a message, cut to 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def slug(*parts: str | None) -> str:
    """A folder name: letters, digits, dots and dashes out of the parts that are given."""
    names = (re.sub(r"[^\w.]+", "-", part).strip("-") for part in parts if part)
    return "-".join(n for n in names if n)
