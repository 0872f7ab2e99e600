"""A table of multi-label images: a CSV file in UTF-8, with a line of column names.

    image,labels,split
    photos/0001.jpg,dog person,train
    photos/0002.jpg,,test

`image` is relative to the file's folder. `labels` are separated by spaces; there may be none. `split` is
train or test (or val, valid, validation: the first of these that occurs is the test split, the others are
left alone); without this column a share of the images is drawn by seed. Other columns are passed over.
Classes are all names in the two splits, in code-point order; images are sorted by path.
"""

import csv
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import Paths
from pipeline.datasets.base import ImageSplit, SplitName
from pipeline.datasets.files import FileReader, file_size
from pipeline.datasets.folder import TEST_NAMES
from pipeline.datasets.holdout import draw_test
from pipeline.errors import DataError


class Row(NamedTuple):
    """A line of the table."""

    path: str
    names: frozenset[str]
    split: str
    """Empty in a table without such a column."""
    place: str
    """FILE, line N: for messages."""


def load(path: str, test_fraction: float, seed: int) -> dict[str, ImageSplit]:
    """Both splits. Raises: DataError naming the line, when the table or an image is missing or damaged."""
    path = os.path.expanduser(path)
    rows = sorted(read_rows(path), key=lambda row: row.path)
    parts = _by_column(path, rows) if rows[0].split else _drawn(rows, test_fraction, seed)
    classes = _classes(row for part in parts.values() for row in part)
    if not classes:
        raise DataError(f"{path}: expected names of classes in the column labels, found none in any line")
    base = os.path.join(os.path.dirname(path), "")
    return {name: _split(base, name, part, classes) for name, part in parts.items()}


def _drawn(rows: Sequence[Row], test_fraction: float, seed: int) -> dict[SplitName, list[Row]]:
    train, test = draw_test(_labels(rows, _classes(rows)), test_fraction, seed)
    return {"train": [rows[i] for i in train], "test": [rows[i] for i in test]}


def _by_column(path: str, rows: Sequence[Row]) -> dict[SplitName, list[Row]]:
    """The rows of each split, by what the column says. Raises: DataError when one has none."""
    said = {row.split for row in rows}
    test_name = next((name for name in TEST_NAMES if name in said), "test")
    parts: dict[SplitName, list[Row]] = {
        "train": [row for row in rows if row.split == "train"],
        "test": [row for row in rows if row.split == test_name],
    }
    for name, part in parts.items():
        if not part:
            raise DataError(
                f"{path}: expected lines of both splits, found none whose column split says {name}; "
                "add some, or leave the column out and a test split is drawn"
            )
    return parts


def _classes(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(sorted({name for row in rows for name in row.names}))


def _labels(rows: Sequence[Row], classes: Sequence[str]) -> NDArray[np.int8]:
    """(N, K): 1 present, 0 absent."""
    column = {label: i for i, label in enumerate(classes)}
    labels = np.zeros((len(rows), len(classes)), np.int8)
    for i, row in enumerate(rows):
        labels[i, [column[label] for label in row.names]] = 1
    return labels


def _split(base: str, name: SplitName, rows: Sequence[Row], classes: tuple[str, ...]) -> ImageSplit:
    paths = Paths(row.path for row in rows)
    return ImageSplit(
        dataset="csv",
        split=name,
        classes=classes,
        paths=paths,
        sizes=np.array([file_size(base + row.path, row.place) for row in rows], np.int64),
        labels=_labels(rows, classes),
        images=FileReader(base, paths),
    )


def read_rows(path: str) -> list[Row]:
    """The table's rows, at least one, in its order. Raises: DataError."""
    rows: dict[str, Row] = {}
    lines = _records(path)
    place, header = next(lines, (f"{path}, line 1", []))
    names = _column_names(place, header)
    for place, fields in lines:
        if len(fields) != len(names):
            raise DataError(
                f"{place}: expected {len(names)} fields as in the first line, found {len(fields)}; "
                "quote a field that has a comma in it"
            )
        row = _row(place, dict(zip(names, fields, strict=True)))
        if row.path in rows:
            raise DataError(
                f"{place}: expected each image once, found {row.path} again ({rows[row.path].place}); "
                "put all its labels in one line"
            )
        rows[row.path] = row
    if not rows:
        raise DataError(f"{path}: expected a line per image below the names of the columns, found none")
    return list(rows.values())


def _row(place: str, fields: dict[str, str]) -> Row:
    image, split = fields["image"], fields.get("split", "").strip()
    if "split" in fields and split not in ("train", *TEST_NAMES):
        expected = ", ".join(TEST_NAMES)
        raise DataError(f"{place}: column split: expected train or one of {expected}, found {split!r}")
    if not image or "\0" in image or image.startswith("/"):
        raise DataError(
            f"{place}: column image: expected a path relative to the file's folder, found {image!r}"
        )
    return Row(posixpath.normpath(image), frozenset(fields["labels"].split()), split, place)


def _column_names(place: str, header: Sequence[str]) -> list[str]:
    """Raises: DataError unless image and labels are among them once, and split at most once."""
    names = [name.strip() for name in header]
    for name in ("image", "labels", "split"):
        count = names.count(name)
        if count > 1 or (name != "split" and not count):
            found = f"{count} of that name" if count else ", ".join(names)[:200] or "nothing"
            raise DataError(f"{place}: expected a column {name!r} (image,labels[,split]), found {found}")
    return names


def _records(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, fields) for each line that isn't empty. Raises: DataError when the file is no table."""
    line = 1
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if fields:
                    yield f"{path}, line {line}", fields
                line = reader.line_num + 1  # a quoted field may hold line breaks
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected a CSV file in UTF-8, found other bytes; save it as UTF-8"
        ) from error
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}, line {line}: expected a line of a CSV file: {error}") from error
