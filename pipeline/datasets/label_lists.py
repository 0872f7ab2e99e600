"""The labels of an image as people write them into one field of a table.

    dog|cat   "dog, cat"   dog cat       split at a text: the one that is given, or that the table shows
    ['dog', 'cat']   {"dog"}   []        lists of Python and JSON
    (empty)   nan   None   NULL   n/a    no label

A class may be called "golden retriever" or "Paris, France", so a space or a comma is taken for a separator
only where each part of each field also stands alone in another line. Else the table is refused, with the
question.
"""

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from pipeline.errors import DataError

SPACE, NONE = "space", "none"
"""Words for --label-separator: any white space, and one label in every line."""
NO_LABEL = frozenset(["", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "set()"])
CLEAR = "|", ";", "\n", "\t"
"""Separators that no class has in its name."""
UNCLEAR = ",", SPACE
"""Separators, or parts of a name: to be asked about, unless the table shows which."""
RARE = "/", "+", "&"
"""Parts of a name, unless the table shows that they separate."""
_ITEM = r"""\s*(?:'([^'\\]*)'|"([^"\\]*)"|([\w./+-]+))\s*"""
_LIST = re.compile(rf"\s*|{_ITEM}(?:,{_ITEM})*(?:,\s*)?")
_BRACKETS = {"[": "]", "{": "}", "(": ")"}


class Field(NamedTuple):
    """What stands in the column labels of one line."""

    text: str
    place: str
    """FILE, line N: for messages."""


def read(fields: Sequence[Field], separator: str | None) -> tuple[list[frozenset[str]], list[str]]:
    """The labels of each field, and remarks on how they were understood.

    Args:
        separator: a text, `SPACE` or `NONE`; None: what the fields show.

    Raises: DataError naming the line of a field that makes no sense, or may have more than one meaning.
    """
    first = {field.text: field.place for field in reversed(fields)}
    lists = {text: found for text, place in first.items() if (found := _list(text, place)) is not None}
    texts = {text.strip(): place for text, place in first.items() if text not in lists}
    alone = {name for names in lists.values() for name in names}
    chosen = separator or _guess(texts, alone)
    labels = lists | {text: _names(text, place, chosen) for text, place in first.items() if text not in lists}
    if not separator:
        _refuse_unclear(labels, first, chosen)
    return [labels[field.text] for field in fields], list(_remarks(fields, texts, separator, chosen))


def split(text: str, separator: str) -> list[str]:
    """The parts of a text, stripped, without empty ones."""
    if separator == NONE:
        return [text.strip()]
    parts = text.split() if separator == SPACE else text.split(separator)
    return [part.strip() for part in parts if part.strip()]


def _list(text: str, place: str) -> frozenset[str] | None:
    """The labels of a list, or of a field without any; None for other texts. Raises: DataError."""
    inner = text.strip()
    if inner.casefold() in NO_LABEL:
        return frozenset()
    if _BRACKETS.get(inner[:1]) != inner[-1:]:
        return None
    if not _LIST.fullmatch(inner[1:-1]):
        if inner[0] == "(":  # a name may have brackets
            return None
        raise DataError(
            f"{place}: column labels: expected a list with quotes around each name, as ['dog', 'cat'], "
            f"found {text!r}"
        )
    if inner[0] == "(" and inner[1:-1].strip() and not set(inner) & {"'", '"'}:
        return None
    items = [a or b or c for a, b, c in re.findall(_ITEM, inner[1:-1])]
    return _without_no_label([item.strip() for item in items if item.strip()], text, place)


def _names(text: str, place: str, separator: str | None) -> frozenset[str]:
    return _without_no_label(split(text, separator or NONE), text, place)


def _without_no_label(names: Sequence[str], text: str, place: str) -> frozenset[str]:
    """Raises: DataError when some of several labels say that there is none."""
    odd = [name for name in names if name.casefold() in NO_LABEL]
    if odd and len(names) > 1:
        raise DataError(
            f"{place}: column labels: found {odd[0]!r}, which is no label, among others: {text!r}"
        )
    return frozenset() if odd else frozenset(names)


def _guess(texts: dict[str, str], alone: Collection[str]) -> str | None:
    """The separator that the texts show; None where each is one label. Raises: DataError."""

    def with_(separator: str) -> dict[str, list[str]]:
        return {text: parts for text in texts if len(parts := split(text, separator)) > 1}

    def shown(separator: str) -> bool:
        found = with_(separator)
        whole = {*alone, *(text for text in texts if text not in found)}
        return bool(found) and all(part in whole for parts in found.values() for part in parts)

    clear = [separator for separator in CLEAR if with_(separator)]
    if len(clear) > 1:
        text = next(iter(with_(clear[1])))
        raise DataError(
            f"{texts[text]}: column labels: {text!r} has {clear[1]!r}, other lines have {clear[0]!r}; say "
            f"which separates labels: --label-separator {_word(clear[0])} or {_word(clear[1])}"
        )
    for separator in (*clear, *(rare for rare in RARE if shown(rare))):
        return separator
    for separator in UNCLEAR:
        if found := with_(separator):
            if shown(separator):
                return separator
            whole = {*alone, *(text for text in texts if text not in found)}
            text = next(t for t, parts in found.items() if not whole.issuperset(parts))
            _ask(text, texts[text], NONE, separator)
    return None


def _refuse_unclear(labels: dict[str, frozenset[str]], first: dict[str, str], chosen: str | None) -> None:
    """Raises: DataError on a label that another separator would split into labels that are there."""
    known = frozenset[str]().union(*labels.values())
    for separator in (*CLEAR, *UNCLEAR, *RARE):
        for name in known:
            if len(parts := split(name, separator)) > 1 and known.issuperset(parts):
                text = next(text for text, names in labels.items() if name in names)
                _ask(name, first[text], chosen or NONE, separator)


def _ask(text: str, place: str, one: str, several: str) -> None:
    """Raises: DataError with the flags of both answers."""
    count = len(split(text, several))
    raise DataError(
        f"{place}: column labels: is {text!r} one label or {count}? If one, add --label-separator "
        f"{_word(one)}; if {count}, --label-separator {_word(several)}"
    )


def _remarks(
    fields: Sequence[Field], texts: dict[str, str], given: str | None, chosen: str | None
) -> Iterable[str]:
    if chosen and not given:
        yield f"labels are split at {_called(chosen)}, as the table shows (--label-separator {_word(chosen)})"
    if given and given != NONE and not any(len(split(text, given)) > 1 for text in texts):
        yield f"no line has several labels with {_called(given)} between them (--label-separator)"
    empty = [text for field in fields if (text := field.text.strip()) and text.casefold() in NO_LABEL]
    if empty:
        said = ", ".join(map(repr, sorted(set(empty))[:5]))
        yield f"{len(empty):,} labels {said} mean no label"


def _called(separator: str) -> str:
    return "white space" if separator == SPACE else repr(separator)


def _word(separator: str) -> str:
    """What to write behind --label-separator in a shell."""
    return f"${separator!r}" if separator in "\n\t" else shlex.quote(separator)
