"""HTML and SVG from Python. What is not `Markup` is text and is escaped, so that no name can become markup.

Characters that a reader would not see, or that would reorder a line (controls, bidirectional overrides, lone
surrogates), are written as escapes like \\u202e.
"""

import unicodedata
from collections.abc import Iterable
from html import escape
from typing import Any

VOID = {"br", "img", "input", "meta"}
JOINERS = "\u200c\u200d"
"""Invisible, but part of how Persian, Hindi and emoji are written."""
HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Categories of characters that can't be seen."""
LONGEST = 120
"""Characters of a name that are shown; the others are left out of its middle."""


class Markup(str):
    """Text that is HTML already."""


def element(tag: str, /, *children: Any, **attributes: Any) -> Markup:
    """An element with attributes and children, which may be iterables of children.

    `class_` is `class`, `aria_label` is `aria-label`; an attribute that is None or False is left out, one
    that is True has no value.
    """
    parts = [f"<{tag}"]
    for key, value in attributes.items():
        if value is not None and value is not False:
            parts.append(f" {key.rstrip('_').replace('_', '-')}")
            parts += [] if value is True else [f'="{escape(visible(str(value)))}"']
    parts.append(">")
    if tag not in VOID:
        parts += [join(children), f"</{tag}>"]
    return Markup("".join(parts))


def join(children: Iterable[Any]) -> Markup:
    """Children one behind the other; None is nothing."""
    return Markup("".join(map(_child, children)))


def _child(child: Any) -> str:
    if isinstance(child, Markup):
        return child
    if child is None:
        return ""
    if isinstance(child, str):
        return escape(visible(child), quote=False)
    if isinstance(child, Iterable):
        return join(child)
    return escape(str(child), quote=False)


def visible(text: str) -> str:
    """A text in which every character can be seen, and stands where it is written."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if unicodedata.category(c) in HIDDEN else c for c in text)


def _escaped(character: str) -> str:
    return character if character in JOINERS else character.encode("unicode-escape").decode()


def name(text: str, longest: int = LONGEST) -> Markup:
    """Somebody's word for something, of any script and length: its direction is its own."""
    return element("bdi", shortened(text, longest), title=text[:1000] if len(text) > longest else None)


def shortened(text: str, longest: int = LONGEST) -> str:
    """A text without its middle, if it is longer than this."""
    half = longest // 2
    return text if len(text) <= longest else f"{text[:half]}…{text[-half:]}"


def scroll(table: Markup, label: str) -> Markup:
    """A table that is scrolled where it is too large, by keys as well."""
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=shortened(label))
