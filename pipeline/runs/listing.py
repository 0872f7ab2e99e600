"""A ledger's entries as a table: which are asked for, in which order and columns, in which format."""

import csv
import io
import json
import operator
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from typing import Any

from pipeline.errors import ConfigError
from pipeline.runs.ledger import Entry
from pipeline.runs.table import number, table
from pipeline.wording import did_you_mean, short, shown

COLUMNS = ("run", "state", "dataset", "trunk", "head", "crops")
FIGURES = ("metric", "score", "low", "high", "images", "test", "mb", "seconds")
"""`score`, `low` and `high` are of validation; `test` of RUN/eval; both in per cent."""
TITLES = {"score": "validation %", "low": "from", "high": "to", "test": "test %", "mb": "MB", "seconds": "s"}
COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    **{"=": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge},
    **{"<": operator.lt, ">": operator.gt},
}


def fields_of(entry: Entry) -> dict[str, Any]:
    """All that is known of an entry, by the names of columns and of settings."""
    return {"run": str(entry.folder), "state": entry.state, **entry.facts, **entry.settings}


def chosen(found: Sequence[Entry], conditions: Sequence[str]) -> list[Entry]:
    """The entries that meet every condition: NAME=VALUE, or one of != < > <= >=.

    Raises: ConfigError on a condition that is none, or about a name that no run has.
    """
    known = {name for entry in found for name in fields_of(entry)}
    for condition in conditions:
        match = re.fullmatch(r"\s*([\w.-]+?)\s*(!=|<=|>=|=|<|>)\s*(.*?)\s*", condition)
        if not match:
            raise ConfigError(f"--where: expected NAME=VALUE, such as head=csra, found {short(condition)}")
        name, sign, value = match.groups()
        name = name.replace("-", "_")
        if known and name not in known:
            expected = f"a column or a setting, such as {', '.join(COLUMNS[1:])}"
            raise ConfigError(
                f"--where: expected {expected}, found {short(name)}{did_you_mean(name, sorted(known))}"
            )
        found = [entry for entry in found if _holds(fields_of(entry).get(name), sign, value)]
    return list(found)


def _holds(have: Any, sign: str, wanted: str) -> bool:
    """Whether a value stands so to a text: as numbers where both are, else as words."""
    if isinstance(have := _single(have), int | float):
        with suppress(ValueError):
            return COMPARED[sign](have, float(wanted))
    return sign in ("=", "!=") and COMPARED[sign](plain(have).lower(), wanted.lower())


def _single(value: Any) -> Any:
    """What a list of one holds, as of seeds; anything else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def ordered(found: Sequence[Entry], column: str) -> list[Entry]:
    """The entries by a column: figures from the highest, all else in the order of the alphabet; those that
    lack it last. Raises: ConfigError when nobody has it."""
    if found and column not in (known := {name for entry in found for name in fields_of(entry)}):
        near = did_you_mean(column, sorted(known))
        raise ConfigError(f"--sort: expected a column or a setting, found {short(column)}{near}")

    def key(entry: Entry) -> tuple[bool, float, str]:
        value = _single(fields_of(entry).get(column))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return False, -value, ""
        return value is None, inf, plain(value)

    return sorted(found, key=key)


def plain(value: Any) -> str:
    """A setting as a word: lists with spaces, nothing for None."""
    if isinstance(value, list):
        return " ".join(map(plain, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def differing(found: Sequence[Entry]) -> list[str]:
    """The settings in which some runs that have them differ, in the order of their names."""
    first: dict[str, Any] = {}
    for entry in found:
        first = entry.settings | first
    return sorted({n for entry in found for n, value in entry.settings.items() if value != first[n]})


def listing(found: Sequence[Entry], form: str) -> str:
    """The entries as `table`, `csv`, `json` or `markdown`."""
    settings = differing(found)
    names = [*COLUMNS, *settings, *FIGURES]
    if form == "json":
        rows = [{n: fields.get(n) for n in (*names, "problem")} for fields in map(fields_of, found)]
        return json.dumps(rows, indent=1)
    if form == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*names, "problem"])
        for entry in found:
            fields = fields_of(entry)
            writer.writerow([_exact(fields.get(name)) for name in (*names, "problem")])
        return text.getvalue().rstrip("\n")
    header = [TITLES.get(name, name) for name in names]
    rows = [[_cell(fields, name) for name in names] for fields in map(fields_of, found)]
    if form == "markdown":
        lines = [header, ["---"] * len(names), *([cell.replace("|", r"\|") for cell in row] for row in rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    problems = [shown(entry.facts["problem"]) for entry in found if entry.state == "broken"]
    return "\n".join([table(header, rows), *problems])


def _exact(value: Any) -> str:
    return repr(value) if isinstance(value, float) else plain(value)


def _cell(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if name in ("score", "low", "high", "test"):
        return number(value)
    if name in ("mb", "seconds"):
        return number(value, 1)
    text = shown(" ".join(plain(value).split())) if value else plain(value)
    return text if len(text) <= 60 or name == "run" else f"{text[:57]}..."
