"""How the classes fare: accuracy or average precision of each, and which are taken for which."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.scored import Predictions
from pipeline.metrics.bootstrap import Interval
from pipeline.metrics.intervals import wilson
from pipeline.metrics.multilabel import average_precision
from pipeline.metrics.single_label import confusion
from pipeline.report.differences import interval_bar
from pipeline.report.markup import Markup, element, name, scroll

MATRIX_UP_TO = 25
"""With more classes than this a matrix can't be read: the worst pairs alone are listed."""
CLASSES = 1000
"""Classes that are listed, the worst ones."""
PAIRS = 30


class ClassRow(NamedTuple):
    """A class of the test images; figures in per cent."""

    label: str
    images: int
    score: float
    low: float | None
    high: float | None
    taken_for: str
    """The class that its images are most often taken for, and how many are."""


def per_class(kept: Predictions) -> Markup:
    """A table of classes, the worst first."""
    rows = _several(kept) if kept.multi_label else _single(kept)
    rows.sort(key=lambda row: row.score)
    left = f" The worst {CLASSES:,} of {len(rows):,}." if len(rows) > CLASSES else ""
    what = "average precision" if kept.multi_label else "accuracy"
    note = "" if kept.multi_label else " with its 95 % interval"
    heads = ["class", "images", what, f"{what}, %", *([] if kept.multi_label else ["mostly taken for"])]
    table = element(
        "table",
        element("caption", f"Test images: {what} of each class{note}, in per cent, the worst first.{left}"),
        element("thead", element("tr", [_head(word) for word in heads])),
        element("tbody", [_line(row, kept.multi_label) for row in rows[:CLASSES]]),
        class_="sortable",
    )
    return element(
        "section",
        element("h2", "Classes", id="classes"),
        scroll(table, "Scores of the classes"),
    )


def _head(word: str) -> Markup:
    return element("th", word, scope="col", class_="number" if word == "images" or "%" in word else None)


def _line(row: ClassRow, multi_label: bool) -> Markup:
    interval = Interval(row.score, row.score if row.low is None else row.low, row.high or row.score)
    cells = [
        element("th", name(row.label, 80), scope="row"),
        element("td", f"{row.images:,}", class_="number", data_value=row.images),
        element(
            "td", interval_bar(interval, (0.0, 100.0), None), class_="wide", data_value=f"{row.score:.9g}"
        ),
        element("td", f"{row.score:.2f}", class_="number"),
    ]
    return element("tr", cells, None if multi_label else element("td", name(row.taken_for, 80)))


def _single(kept: Predictions) -> list[ClassRow]:
    labels, predicted = kept.labels, kept.logits.argmax(1)
    count = len(kept.classes)
    images = np.bincount(labels, minlength=count)
    right = np.bincount(labels[labels == predicted], minlength=count)
    worst: dict[int, tuple[int, int]] = {}
    for label, prediction, number in pairs(labels, predicted):
        worst.setdefault(label, (prediction, number))
    rows = []
    for k in np.flatnonzero(images).tolist():
        score = 100 * right[k] / images[k]
        taken = f"{kept.classes[worst[k][0]]}: {worst[k][1]:,}" if k in worst else ""
        rows.append(
            ClassRow(str(kept.classes[k]), int(images[k]), score, *wilson(score, int(images[k])), taken)
        )
    return rows


def _several(kept: Predictions) -> list[ClassRow]:
    values = average_precision(kept.logits, kept.labels)
    present = (kept.labels == 1).sum(0)
    return [
        ClassRow(str(kept.classes[k]), int(present[k]), 100 * float(values[k]), None, None, "")
        for k in np.flatnonzero(present).tolist()
    ]


def pairs(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> list[tuple[int, int, int]]:
    """(label, prediction, count) of wrong predictions, the most frequent first."""
    cells = confusion(labels, predicted)
    found = [cell for cell in zip(*cells.values(), strict=True) if cell[0] != cell[1]]
    return sorted(found, key=lambda cell: (-cell[2], cell[0], cell[1]))


def confused(kept: Predictions) -> Markup | None:
    """The confusion matrix where its classes are few, and the pairs that are confused most. None where images
    have several labels, and so no single prediction."""
    if kept.multi_label:
        return None
    predicted = kept.logits.argmax(1)
    images = np.bincount(kept.labels, minlength=len(kept.classes))
    names = [str(label) for label in kept.classes]
    found = pairs(kept.labels, predicted)
    parts = [_matrix(kept.labels, predicted, names)] if len(names) <= MATRIX_UP_TO else []
    return element(
        "section",
        element("h2", "Confusion", id="confusion"),
        parts,
        element("h3", "Most frequent mistakes")
        if found
        else element("p", "No test image is classified wrong."),
        _worst(found, names, images) if found else None,
    )


def _worst(
    found: Sequence[tuple[int, int, int]], names: Sequence[str], images: NDArray[np.integer]
) -> Markup:
    rows = [
        element(
            "tr",
            element("th", name(names[label], 60), scope="row"),
            element("td", name(names[prediction], 60)),
            element("td", f"{count:,}", class_="number", data_value=count),
            element("td", f"{100 * count / images[label]:.1f}", class_="number"),
        )
        for label, prediction, count in found[:PAIRS]
    ]
    heads = [("label", None), ("taken for", None), ("images", "number"), ("% of the label's", "number")]
    head = [element("th", word, scope="col", class_=style) for word, style in heads]
    more = f"The worst {PAIRS} of {len(found):,} pairs." if len(found) > PAIRS else f"{len(found):,} pairs."
    parts = element("caption", more), element("thead", element("tr", head)), element("tbody", rows)
    table = element("table", parts, class_="sortable")
    return scroll(table, "Confused pairs")


def _matrix(labels: NDArray[np.integer], predicted: NDArray[np.integer], names: Sequence[str]) -> Markup:
    counts = np.zeros((len(names), len(names)), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    head = [element("th", element("span", name(label, 24)), scope="col") for label in names]
    rows = [
        element(
            "tr",
            element("th", name(label, 24), scope="row"),
            [_cell(int(counts[i, j]), float(shares[i, j]), i == j) for j in range(len(names))],
        )
        for i, label in enumerate(names)
    ]
    title = "Counts of test images: a line for each label, a column for each prediction."
    table = element(
        "table",
        element("thead", element("tr", element("td", "label ↓ prediction →"), head)),
        element("tbody", rows),
        class_="matrix",
    )
    return element("div", element("p", title, class_="muted"), scroll(table, "Confusion matrix"))


def _cell(count: int, share: float, is_right: bool) -> Markup:
    """A count, shaded by its share of the label's images; wrong ones in another colour, and sooner."""
    level = int(np.ceil(5 * share if is_right else 5 * min(1.0, share * 4))) if count else 0
    style = f"{'' if is_right else 'wrong '}h{level}" if level else None
    return element("td", f"{count:,}" if count else "", class_=style)
