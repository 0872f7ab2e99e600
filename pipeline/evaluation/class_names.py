"""How names are written in pictures: in letters that an installed font has, or by something that can be read.

A name that no font has is drawn as its number, "#12", which classes.csv beside the picture explains, or an
emoji by what Unicode calls it, "[cat face]". Long names lose their middle, control characters are escaped.
"""

import csv
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.datasets.corrections import escaped
from pipeline.evaluation.fonts import fonts_for
from pipeline.files import replacing
from pipeline.progress import warn
from pipeline.wording import shown, some

COLUMNS = 18
"""Width of a name in a picture; Chinese characters and the like take two."""
INVISIBLE = "\u200c\u200d\u200e\u200f"
"""Joiners and marks of direction, which belong to words."""
LEGEND = "classes.csv"
"""The classes by number, beside a picture in which numbers stand for names."""


def drawn_names(path: Path, classes: Sequence[str], chosen: Iterable[int] | None = None) -> dict[int, str]:
    """What to write for some of the classes, by default all, in the picture `path`; no two are the same.

    Where a number had to stand for a name, classes.csv is written beside the picture. What no font has is
    said in a line on the standard error.
    """
    places = list(range(len(classes)) if chosen is None else chosen)
    names = {k: visible(classes[k]) for k in places}
    _, missing = fonts_for("".join(names.values()))
    found = {k: shortened(spelled(name, missing)) for k, name in names.items()}
    count = Counter(found.values())
    drawn = {
        k: f"#{k}" if missing & set(text) else shortened(f"#{k} {text}") if count[text] > 1 else text
        for k, text in found.items()
    }
    if numbered := any(drawn[k] != found[k] for k in places):
        write_legend(path, classes)
    if lacking := [shown(classes[k]) for k in places if missing & set(names[k])]:
        instead = f"; the numbers that stand for them are in {LEGEND}" if numbered else ""
        warn(
            f"{path}: no installed font has the letters of {some(lacking)}{instead}; install one that has "
            "them, such as Debian's fonts-noto-cjk, fonts-noto-core or fonts-symbola"
        )
    return drawn


def write_legend(path: Path, classes: Sequence[str]) -> None:
    """Write classes.csv beside a picture: number and name of each class. Raises: OSError naming the file."""
    with (
        replacing(path.with_name(LEGEND)) as part,
        part.open("w", encoding="utf-8-sig", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(("number", "class"))
        writer.writerows((k, escaped(name)) for k, name in enumerate(classes))


def visible(text: str) -> str:
    """Text on one line, with escapes for what would change its direction, break it or not be seen."""
    written = ""
    for c in text:
        if not (written and _is_glue(c, written[-1])):
            written += c if c.isprintable() or c in INVISIBLE else ascii(c)[1:-1]
    return written


def spelled(text: str, missing: set[str]) -> str:
    """Text with what Unicode calls the symbols that no font has."""
    return "".join(
        f"[{unicodedata.name(c).lower()}]" if c in missing and unicodedata.category(c) == "So" else c
        for c in text
    )


def shortened(text: str, columns: int = COLUMNS) -> str:
    """Text of limited width: its beginning, an ellipsis, its end. Letters keep their accents."""
    letters: list[str] = []
    for c in text:
        if letters and (_width(c) == 0 or letters[-1].endswith("\u200d")):
            letters[-1] += c
        else:
            letters.append(c)
    widths = [sum(map(_width, letter)) for letter in letters]
    if sum(widths) <= columns:
        return text
    first, last = _fitting(widths, columns // 2), _fitting(widths[::-1], (columns - 1) // 2)
    return f"{''.join(letters[:first])}…{''.join(letters[len(letters) - last :])}"


def _fitting(widths: Sequence[int], columns: int) -> int:
    """How many of the first fit."""
    count = total = 0
    while total + widths[count] <= columns:
        total += widths[count]
        count += 1
    return count


def _width(c: str) -> int:
    if unicodedata.category(c) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(c) in "WF" else 1


def _is_glue(c: str, last: str) -> bool:
    """Whether a letter frames, joins or colours emoji, which fonts that can be drawn with don't do."""
    return c in "\ufe0e\ufe0f\u20e3" or (c == "\u200d" and unicodedata.category(last) in {"So", "Sk"})
