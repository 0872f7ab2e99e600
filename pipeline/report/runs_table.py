"""All runs as a table that the page's script sorts and filters; whole without the script as well."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline.report.markup import Markup, element, name, scroll, shortened
from pipeline.runs.ledger import Entry
from pipeline.runs.listing import COLUMNS, TITLES, differing, fields_of
from pipeline.runs.table import number

FIGURES = ("score", "low", "high", "test", "images", "mb", "seconds")
DIFFERING = 10
"""Settings that get a column of their own; `tencrop runs` lists all."""


def runs_table(found: Sequence[Entry], labels: Mapping[Path, str], best: Collection[Path]) -> Markup:
    """A line per run, the best validation score first, and those without one at the end.

    best: the folders of the runs that are the best on their images.
    """
    settings = differing(found)
    shown = settings[:DIFFERING]
    metrics = {str(entry.facts.get("metric")) for entry in found if entry.facts.get("metric")}
    columns = [*COLUMNS, *(["metric"] if len(metrics) > 1 else []), *FIGURES[:4], *shown, *FIGURES[4:]]
    ordered = sorted(found, key=lambda entry: (-(entry.facts.get("score") or -1.0), entry.folder not in best))
    rows = [_row(entry, columns, str(labels[entry.folder]), entry.folder in best) for entry in ordered]
    head = element("tr", [_title(column, column in FIGURES) for column in columns])
    left = f" {len(settings) - DIFFERING} more settings differ." if len(settings) > DIFFERING else ""
    caption = f"Scores in per cent; from and to are the 95 % interval of the validation score.{left}"
    table = element(
        "table",
        element("caption", caption),
        element("thead", head),
        element("tbody", rows),
        id="runs-table",
        class_="sortable",
    )
    return element(
        "section",
        element("h2", "All runs", id="runs"),
        _controls(found),
        scroll(table, "Table of all runs"),
    )


def _controls(found: Sequence[Entry]) -> Markup:
    """Search and choice of state; hidden until the script is there to serve them."""
    states = sorted({entry.state for entry in found})
    search = element(
        "input",
        type="search",
        id="filter",
        placeholder="head=csra score>97 words",
        autocomplete="off",
        spellcheck="false",
        aria_describedby="filter-help",
    )
    choices = [element("option", "all states", value="")]
    choices += [element("option", state, value=state) for state in states]
    return element(
        "div",
        element("label", "Filter ", search),
        element("label", "State ", element("select", choices, id="state")),
        element("span", f"{len(found):,} of {len(found):,} runs", id="count", role="status"),
        element("span", "Words, or a column with =, < or > and a value", id="filter-help", class_="hint"),
        class_="controls",
        hidden=True,
    )


def _title(column: str, is_figure: bool) -> Markup:
    title = TITLES.get(column, column.replace("_", " "))
    return element("th", title, scope="col", data_name=column, class_="number" if is_figure else None)


def _row(entry: Entry, columns: Sequence[str], label: str, is_best: bool) -> Markup:
    fields = {**fields_of(entry), "run": label}
    first = element("th", name(label), scope="row", data_value=shortened(label, 300))
    cells = [first, *(_cell(fields, column) for column in columns[1:])]
    style = f"is-{entry.state} is-best" if is_best else f"is-{entry.state}"
    line = element("tr", cells, class_=style, data_state=entry.state)
    if problem := entry.facts.get("problem"):
        note = element("td", name(str(problem), 300), colspan=len(columns) - 2, class_="problem")
        line = element("tr", cells[:2], note, class_="is-broken", data_state=entry.state)
    return line


def _cell(fields: Mapping[str, object], column: str) -> Markup:
    value = fields.get(column)
    if column == "state":
        return element("td", element("span", str(value), class_=f"state {value}"), data_value=value)
    if value is None:
        return element("td", "–", data_value="")
    if isinstance(value, int | float) and not isinstance(value, bool):
        digits = 2 if column in FIGURES[:4] else 1
        text = number(value, digits) if column in FIGURES and column != "images" else f"{value:,.6g}"
        return element("td", text, class_="number", data_value=repr(float(value)))
    return element("td", name(str(value), 60), data_value=shortened(str(value), 300))
