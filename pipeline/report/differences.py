"""Each run's score minus that of the best, on the same images: paired intervals as a plot in a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.errors import RunError
from pipeline.evaluation.compare import in_order
from pipeline.evaluation.scored import Predictions
from pipeline.metrics.bootstrap import Interval
from pipeline.metrics.intervals import middle, scores_on_draws, wilson
from pipeline.metrics.multilabel import mean_average_precision
from pipeline.report.answer import in_points
from pipeline.report.chart import figure, spread, ticks
from pipeline.report.kept import has_kept, read_kept
from pipeline.report.markup import Markup, element, name, scroll
from pipeline.runs.ledger import Entry
from pipeline.runs.ranking import Standing

MOST = 25
"""Runs in a plot: those with the highest validation scores."""
MOST_MULTI_LABEL = 10
"""Where each needs an mAP on every draw of the images."""
WIDTH, HEIGHT = 320, 22


class Row(NamedTuple):
    """A run beside the one that all are compared with."""

    label: str
    minus: Interval


def differences(
    group: Standing, shown: Entry, kept: Predictions | None, labels: Mapping[Path, str]
) -> Markup:
    """Plots of differences: in validation to the best run, in testing to the run that the report looks at."""
    known = [(entry, minus) for entry, minus in group.others if minus is not None]
    rows = [Row(str(labels[entry.folder]), minus) for entry, minus in known[:MOST]]
    images = group.best.facts["images"] or 0
    title = f"Validation, {images:,.0f} images: {group.metric} minus that of {labels[group.best.folder]}"
    parts = [_plot(title, rows, len(group.others) - len(rows))]
    if kept is not None:
        tested, problems = on_test(group, shown, kept, labels)
        title = f"Test, {len(kept.labels):,} images: {group.metric} minus that of {labels[shown.folder]}"
        parts += [_plot(title, tested, 0), *(element("p", problem, class_="problem") for problem in problems)]
    return element(
        "section",
        element("h2", "Differences", id="differences"),
        element(
            "p",
            "In percentage points, with 95 % intervals over images that all runs share, so that an image's "
            "difficulty cancels. A run whose interval reaches zero can't be told apart.",
            class_="muted",
        ),
        parts,
    )


def on_test(
    group: Standing, shown: Entry, kept: Predictions, labels: Mapping[Path, str]
) -> tuple[list[Row], list[str]]:
    """The test scores of other evaluated runs minus that of the shown one, and why some can't be compared."""
    entries = [group.best, *(entry for entry, _ in group.others)]
    others = [entry for entry in entries if entry.folder != shown.folder and has_kept(entry)]
    found: list[tuple[str, Predictions]] = []
    problems = []
    for entry in others[: MOST_MULTI_LABEL if kept.multi_label else MOST]:
        try:
            other = read_kept(entry.folder)
            if other.multi_label != kept.multi_label:
                raise RunError(f"{entry.folder}: has another kind of labels")
            found.append((str(labels[entry.folder]), in_order(shown.folder, kept, entry.folder, other)))
        except RunError as error:
            problems.append(str(error))
    if not found:
        return [], problems
    answers = [_answers(run) for run in (kept, *(run for _, run in found))]
    draws = scores_on_draws(np.stack(answers), kept.labels)
    scores = [score(run) for run in (kept, *(run for _, run in found))]
    rows = [
        Row(label, Interval(scores[i] - scores[0], *middle(np.round(draws[i] - draws[0], 4))))
        for i, (label, _) in enumerate(found, 1)
    ]
    return sorted(rows, key=lambda row: -row.minus.difference), problems


def _answers(run: Predictions) -> np.ndarray:
    return run.logits if run.multi_label else run.correct


def score(run: Predictions) -> float:
    """Top-1, or mAP where images have several labels, in per cent; NaN where no label is present."""
    if run.multi_label:
        return 100 * float(mean_average_precision(run.logits, run.labels))
    return 100 * float(run.correct.mean())


def test_interval(run: Predictions) -> Interval:
    """The score of test images with its 95 % interval: Wilson's of a top-1, a bootstrap's of an mAP."""
    value = score(run)
    if run.multi_label:
        return Interval(value, *middle(scores_on_draws(run.logits[None], run.labels)[0]))
    return Interval(value, *wilson(value, len(run.labels)))


def _plot(title: str, rows: Sequence[Row], left_out: int) -> Markup:
    if not rows:
        return element("p", f"{title}: there is no other run on the same images.", class_="muted")
    ends = [end for row in rows for end in (row.minus.low, row.minus.high)]
    axis = spread([*ends, 0.0])
    head = [
        element("th", "run", scope="col"),
        element("th", _axis(axis), scope="col", aria_label="interval"),
        element("th", "difference [95 % interval]", scope="col", class_="number"),
        element("th", "verdict", scope="col"),
    ]
    more = f" {left_out:,} more are not shown, or can't be compared." if left_out > 0 else ""
    table = element(
        "table",
        element("caption", name(title, 300), more),
        element("thead", element("tr", head)),
        element("tbody", [_line(row, axis) for row in rows]),
    )
    return scroll(table, title)


def _line(row: Row, axis: tuple[float, float]) -> Markup:
    minus = row.minus
    apart = minus.high < 0 or minus.low > 0
    word = ("better" if minus.low > 0 else "worse") if apart else "not told apart"
    return element(
        "tr",
        element("th", name(row.label, 80), scope="row"),
        element("td", interval_bar(minus, axis, 0.0, "apart" if apart else ""), class_="wide"),
        element("td", in_points(minus), class_="number"),
        element("td", word, class_="verdict"),
    )


def interval_bar(found: Interval, axis: tuple[float, float], zero: float | None, style: str = "") -> Markup:
    """A point and its interval on an axis, as a picture; the figures stand beside it."""
    middle_y = HEIGHT / 2
    lines = [] if zero is None else [_vertical(_across(zero, axis), "zero")]
    low, high = _across(found.low, axis), _across(found.high, axis)
    lines.append(element("line", x1=low, x2=high, y1=middle_y, y2=middle_y, class_=f"range {style}".strip()))
    point = element(
        "circle", cx=_across(found.difference, axis), cy=middle_y, r=5, class_=f"point {style}".strip()
    )
    return element("svg", lines, point, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="bars", aria_hidden="true")


def _across(value: float, axis: tuple[float, float]) -> float:
    return round(4 + (WIDTH - 8) * (value - axis[0]) / (axis[1] - axis[0]), 1)


def _vertical(x: float, style: str) -> Markup:
    return element("line", x1=x, x2=x, y1=0, y2=HEIGHT, class_=style)


def _axis(axis: tuple[float, float]) -> Markup:
    """The ticks above the intervals."""
    labels = [
        element("text", figure(value), x=_across(value, axis), y=15, class_="middle")
        for value in ticks(*axis, 6)
    ]
    return element("svg", labels, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="bars", aria_hidden="true")
