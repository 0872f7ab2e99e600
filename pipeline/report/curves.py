"""Learning curves: the validation score of the best runs by epoch, and the losses of the best of them."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.files import read_bytes
from pipeline.report.chart import SERIES, Frame, spread, swatch
from pipeline.report.collect import number, own
from pipeline.report.markup import Markup, element, name
from pipeline.runs.layout import METRICS
from pipeline.runs.ledger import Entry
from pipeline.runs.score import MAP, TOP1

POINTS = 300
"""Epochs of a curve that are drawn; of more, every so many."""

LOSSES = {"training": "train_loss", "validation": "val_loss"}

Points = list[tuple[float, float]]


def curves(found: Sequence[Entry], labels: Mapping[Path, str]) -> Markup | None:
    """Curves of runs with epochs: of those with the highest scores, and of what is not finished."""
    metric = next((entry.facts["metric"] for entry in found if entry.facts.get("metric")), None)
    key = MAP.key if metric == MAP.title else TOP1.key
    ranked = sorted(
        found, key=lambda entry: (entry.facts.get("score") is None, -(entry.facts.get("score") or 0))
    )
    known: list[tuple[Entry, list[dict[str, Any]]]] = []
    for entry in ranked:
        same = entry.facts.get("metric") in (metric, None)
        if len(known) < SERIES and same and (lines := epochs(entry.folder)):
            known.append((entry, lines))
    if not known:
        return None
    scores = [(str(labels[entry.folder]), _points(lines, key)) for entry, lines in known]
    best, lines = known[0]
    losses = [
        (title, _points(lines, loss))
        for title, loss in (("training", "train_loss"), ("validation", "val_loss"))
    ]
    figures = [
        _figure(f"Validation {metric} by epoch", scores, f"validation {metric}, %", " %"),
        _figure(f"Loss of {labels[best.folder]}", losses, "loss", ""),
    ]
    left = (
        ""
        if len(found) <= len(known)
        else f"The {len(known)} with the highest scores of those that have epochs."
    )
    return element(
        "section",
        element("h2", "Learning curves", id="curves"),
        element("p", left, class_="muted") if left else None,
        element("div", figures, class_="charts"),
    )


def epochs(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl that are about an epoch; none where it can't be read."""
    try:
        data = read_bytes(own(folder, METRICS))
    except RunError:
        return []
    found = []
    for line in data.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and number(value.get("epoch")) is not None:
            found.append(value)
    step = max(1, -(-len(found) // POINTS))
    return found[(len(found) - 1) % step :: step]  # with the last one


def _points(lines: Sequence[dict[str, Any]], key: str) -> Points:
    pairs = [(number(line.get("epoch")), number(line.get(key))) for line in lines]
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _figure(title: str, series: Sequence[tuple[str, Points]], y_label: str, unit: str) -> Markup | None:
    drawn = [(label, points) for label, points in series if points]
    if not drawn:
        return None
    xs, ys = zip(*(point for _, points in drawn for point in points), strict=True)
    frame = Frame((min(xs), max(xs)) if max(xs) > min(xs) else spread(xs), spread(ys))
    lines = [_line(frame, place, *pair, unit) for place, pair in enumerate(drawn)]
    legend = [
        element("li", swatch(place), name(label, 60), data_series=place)
        for place, (label, _) in enumerate(drawn)
    ]
    chart = frame.drawn(*lines, title=title, x_label="epoch", y_label=y_label)
    return element(
        "figure", element("h3", title), chart, element("ul", legend, class_="legend"), _as_table(title, drawn)
    )


def _line(frame: Frame, place: int, label: str, points: Points, unit: str) -> Markup:
    style = f"series s{place % SERIES}"
    x, y = points[-1]
    end = frame.dot(x, y, f"{label}: {y:.4g}{unit} after epoch {x:g}", class_=style)
    return element("g", frame.line(points, class_=style), end, data_series=place)


def _as_table(title: str, drawn: Sequence[tuple[str, Points]]) -> Markup:
    """First, best-known and last figures, for those who can't see the lines."""
    rows = [
        element(
            "tr",
            element("th", name(label, 60), scope="row"),
            [element("td", f"{value:,.4g}", class_="number") for value in _extremes(points)],
        )
        for label, points in drawn
    ]
    head = [element("th", word, scope="col") for word in ("line", "first", "lowest", "highest", "last")]
    table = element(
        "table", element("caption", title), element("thead", element("tr", head)), element("tbody", rows)
    )
    return element("details", element("summary", "In figures"), table)


def _extremes(points: Points) -> tuple[float, float, float, float]:
    values = [y for _, y in points]
    return values[0], min(values), max(values), values[-1]
