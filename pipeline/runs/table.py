"""Text tables for the terminal."""

from collections.abc import Sequence
from math import isnan


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align columns: names, in the first, to the left, and numbers, in the others, to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip()
        for line in lines
    )


def number(value: float | None, digits: int = 2) -> str:
    """A cell of a table; a dash where there is no value, or NaN."""
    return "-" if value is None or isnan(value) else f"{value:.{digits}f}"
