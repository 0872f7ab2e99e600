"""Fonts for names in any script: which of the installed ones have the letters that the usual one lacks."""

import contextlib
import logging
import warnings
from collections.abc import Iterator

from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font

USUAL = "DejaVu Sans"
"""Comes with matplotlib."""
PLACEHOLDERS = "Last Resort"
"""A font, also matplotlib's, that has a box for every letter there is."""


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep matplotlib from warning and logging about fonts, also where warnings are errors: a picture that
    lacks a letter is still one."""
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            log.setLevel(level)


def families_for(text: str) -> list[str]:
    """The fewest font families, the one with most letters first, that have what the usual one lacks; none for
    letters that no installed font has."""
    missing = {ord(letter) for letter in text if letter.isprintable()} - _letters(findfont(USUAL))
    chosen: list[str] = []
    known = {family: missing & letters for family, letters in _installed()} if missing else {}
    while known and (best := max(sorted(known), key=lambda family: len(known[family] & missing))):
        if not (found := known.pop(best) & missing):
            break
        missing -= found
        chosen.append(best)
    return chosen


def _installed() -> Iterator[tuple[str, set[int]]]:
    """The families that can be drawn with, and the letters of the file that matplotlib takes for each."""
    for family in sorted({font.name for font in fontManager.ttflist}):
        if not family.startswith(PLACEHOLDERS) and (letters := _letters(findfont(family))):
            yield family, letters


def _letters(file: str) -> set[int]:
    """Code points that a font has; none when it can't be read, or has bitmaps of one size, as of emoji."""
    try:
        font = FT2Font(file)
        return set(font.get_charmap()) if font.scalable else set()
    except (OSError, RuntimeError):
        return set()
