"""A table of multi-label images: a CSV file in UTF-8, with a line of column names.

    image,labels,split
    photos/0001.jpg,dog|person,train
    photos/0002.jpg,,test

Commas, semicolons or tabs separate the columns, of which `columns` knows other names. `image` lies below the
file's folder and is relative to it, or absolute.
`labels` holds any number of labels: see `label_lists`. `split` is train, test, or val (valid, validation);
where there is no test, val is the test split, and else the validation part. Without this column a share of
each class is drawn by seed. Other columns are not used.

Classes are all names, in code-point order. Images are sorted by path, those of val behind those of train.
"""

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import Paths
from pipeline.datasets import label_lists
from pipeline.datasets.base import ImageSplit, SplitName
from pipeline.datasets.columns import NAMES, understood
from pipeline.datasets.files import reader_of, written_path
from pipeline.datasets.folder import TEST_NAMES
from pipeline.datasets.holdout import draw_test
from pipeline.datasets.litter import litter_in
from pipeline.datasets.places import place
from pipeline.datasets.records import records
from pipeline.errors import DataError
from pipeline.wording import shown, some


class Line(NamedTuple):
    """A line of the table."""

    path: str
    labels: label_lists.Field
    split: str
    """train, val or test; empty in a table without such a column."""


class Row(NamedTuple):
    """An image and its labels."""

    line: Line
    names: frozenset[str]


def load(
    path: str, test_fraction: float, seed: int, label_separator: str | None = None
) -> dict[str, ImageSplit]:
    """Both splits. Raises: DataError naming the line, when the table or an image is missing or damaged."""
    path = place(path)
    lines, unused, columns = read_lines(path)
    labels, remarks = label_lists.read([line.labels for line in lines], label_separator)
    rows = sorted(map(Row, lines, labels), key=lambda row: row.line.path)
    classes = tuple(sorted(frozenset().union(*labels)))
    if not classes:
        raise DataError(f"{path}: expected names of classes in the column labels, found none in any line")
    if lines[0].split:
        parts = _by_column(path, rows)
    else:
        train, test = draw_test(_labels(rows, classes), test_fraction, seed)
        parts = {"train": [rows[i] for i in train], "val": [], "test": [rows[i] for i in test]}
    base = os.path.join(os.path.dirname(path), "")
    train = _split(base, "train", [*parts["train"], *parts["val"]], classes)
    said = [f"{path}: {remark}" for remark in (*columns, *remarks)]
    if lines[0].split and not any(row.line.split == "test" for row in rows):
        said.append(f"{path}: the lines of val are the test split, as none says test")
    train = dataclasses.replace(train, val_rows=len(parts["val"]), ignored=unused, remarks=said)
    return {"train": train, "test": _split(base, "test", parts["test"], classes)}


def _by_column(path: str, rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of each part, by what the column says. Raises: DataError when a split has none."""
    parts = {name: [row for row in rows if row.line.split == name] for name in ("train", "val", "test")}
    if not parts["test"]:
        parts["test"], parts["val"] = parts["val"], []
    for name in ("train", "test"):
        if not parts[name]:
            raise DataError(
                f"{path}: expected lines of both splits, found none whose column split says {name}; "
                "add some, or leave the column out and a test split is drawn"
            )
    return parts


def _labels(rows: Sequence[Row], classes: Sequence[str]) -> NDArray[np.int8]:
    """(N, K): 1 present, 0 absent."""
    column = {label: i for i, label in enumerate(classes)}
    labels = np.zeros((len(rows), len(classes)), np.int8)
    for i, row in enumerate(rows):
        labels[i, [column[label] for label in row.names]] = 1
    return labels


def _split(base: str, name: SplitName, rows: Sequence[Row], classes: tuple[str, ...]) -> ImageSplit:
    paths = Paths(row.line.path for row in rows)
    sizes, images = reader_of(base, paths, lambda row: rows[row].line.labels.place)
    return ImageSplit(
        dataset="csv",
        split=name,
        classes=classes,
        paths=paths,
        sizes=sizes,
        labels=_labels(rows, classes),
        images=images,
    )


def read_lines(path: str) -> tuple[list[Line], list[str], list[str]]:
    """The table's lines, at least one, in its order, what of it isn't used, and how its columns were
    understood. Raises: DataError."""
    lines: dict[str, Line] = {}
    below = records(path)
    place, header = next(below, (f"{path}, line 1", []))
    names, table, remarks = understood(place, header, below)
    left_out = Counter[str]()
    base = os.path.join(os.path.dirname(path), "")
    for place, fields in table:
        if len(fields) != len(names):
            raise DataError(
                f"{place}: expected {len(names)} fields as in the first line, found {len(fields)}; "
                "quote a field that has a comma in it"
            )
        line = _line(base, place, dict(zip(names, fields, strict=True)))
        if litter := litter_in(line.path):
            left_out[litter] += 1
        elif line.path in lines:
            raise DataError(
                f"{place}: expected each image once, found {shown(line.path)} again "
                f"({lines[line.path].labels.place}); put all its labels in one line"
            )
        else:
            lines[line.path] = line
    if not lines:
        raise DataError(f"{path}: expected a line per image below the names of the columns, found none")
    unused = [f"{path}: {n:,} lines of images in {shown(name)}" for name, n in left_out.most_common(5)]
    if others := [shown(name) for name in names if name and name not in NAMES]:
        unused.append(f"{path}: column{'s' * (len(others) > 1)} {some(others, 10)}")
    return list(lines.values()), unused, remarks


def _line(base: str, place: str, fields: dict[str, str]) -> Line:
    said = fields.get("split", "train").strip().casefold()
    if said not in ("train", *TEST_NAMES):
        expected = ", ".join(TEST_NAMES)
        raise DataError(
            f"{place}: column split: expected train or one of {expected}, found {fields['split']!r}"
        )
    split = "val" if said not in ("train", "test") else said
    try:
        path = written_path(base, fields["image"])
    except ValueError as error:
        advice = "move the table to a folder that holds all images, and write paths from there"
        raise DataError(f"{place}: column image: {error}; {advice}") from None
    return Line(path, label_lists.Field(fields["labels"], place), split if "split" in fields else "")
