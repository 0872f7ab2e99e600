"""Fonts for names in any script: which of the installed ones have the letters that the usual one lacks."""

import contextlib
import logging
import unicodedata
import warnings
from collections.abc import Iterable, Iterator
from functools import cache

from matplotlib.font_manager import findfont, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

USUAL = "DejaVu Sans"
"""Comes with matplotlib."""
PLACEHOLDERS = "Last Resort"
"""A font, also matplotlib's, that has a box for every letter there is."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep matplotlib from warning and logging about fonts, also where warnings are errors."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)


@quietly()
def fonts_for(text: str) -> tuple[list[str], set[str]]:
    """The fewest font families, the one with most letters first, that have what the usual one lacks; and the
    letters that no installed font has.

    Letters that are never seen by themselves (joiners, variants, what isn't printable) are left out.
    """
    missing = {ord(letter) for letter in text if _is_seen(letter)} - _letters(findfont(USUAL))
    if missing:
        _add_new()
    chosen: list[str] = []
    known = {family: missing & letters for family, letters in _installed()} if missing else {}
    plain_first = sorted(known, key=lambda family: ("Sans" not in family, family))
    while missing:
        best = max(plain_first, key=lambda family: len(known[family] & missing))
        if not (found := known[best] & missing):
            break
        missing -= found
        chosen.append(best)
    return chosen, set(map(chr, missing))


def _is_seen(letter: str) -> bool:
    return letter.isprintable() and not unicodedata.name(letter, "").startswith("VARIATION SELECTOR")


def _add_new() -> None:
    """Add the fonts that were installed since matplotlib made its list, which it keeps for ever."""
    for file in sorted({*findSystemFonts()} - {font.fname for font in fontManager.ttflist}):
        with contextlib.suppress(OSError, RuntimeError, NotImplementedError):  # of bitmaps, or damaged
            fontManager.addfont(file)


def _installed() -> Iterable[tuple[str, frozenset[int]]]:
    """The families that can be drawn with, and the letters of the file that matplotlib takes for each."""
    for family in sorted({font.name for font in fontManager.ttflist}):
        if not family.startswith(PLACEHOLDERS) and (letters := _letters(findfont(family))):
            yield family, letters


@cache
def _letters(file: str) -> frozenset[int]:
    """Code points that a font has; none when it can't be read, or has bitmaps of one size, as of emoji."""
    try:
        font = FT2Font(file)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
