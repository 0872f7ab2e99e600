"""Labels as people keep them → what a cache holds: numbers of classes and their names."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cache.errors import CacheError
from cache.importing.numpy_files import load

LABEL, PATH = ("label", "labels", "class", "target"), ("path", "image", "file", "filename")
"""What columns of a table are called, in upper or lower case."""


def encoded(values: Any, classes: Sequence[str] | None, rows: int, name: str) -> tuple[Any, list[str]]:
    """(N,) or (N, K) integers, and the names of the classes: those given, or occurring, or else 0, 1, 2, …

    Raises: CacheError when there are more or fewer than rows, or they are neither numbers nor names.
    """
    labels = np.asarray(values)
    if not labels.ndim or len(labels) != rows:
        found = f"{len(labels):,}" if labels.ndim else "a single one"
        raise CacheError(f"{name}: expected a label for each of {rows:,} rows of features, found {found}")
    if labels.dtype.kind in "US" and labels.ndim == 1:
        texts = labels.astype(str).tolist()
        names = list(classes or sorted(set(texts)))
        if unknown := sorted(set(texts) - set(names)):
            raise CacheError(f"{name}: expected labels out of --classes, found {unknown[0]!r}")
        place = {text: i for i, text in enumerate(names)}
        return np.array([place[text] for text in texts], np.int64), names
    if labels.dtype.kind not in "iub" or labels.ndim > 2:
        raise CacheError(
            f"{name}: labels: expected whole numbers or names (N,), or 1, 0 and -1 for each class (N, K), "
            f"found {labels.dtype} of shape {labels.shape}"
        )
    labels = labels.astype(np.int8 if labels.dtype.kind == "b" else labels.dtype)
    count = labels.shape[1] if labels.ndim == 2 else max(int(labels.max()) + 1, 1)
    return labels, list(classes or map(str, range(count)))


def read(path: Path) -> tuple[Any, list[str] | None]:
    """The labels in a .npy file, or in the column `label` of a CSV file, and its column `path` if it has one.

    Raises: CacheError.
    """
    if path.suffix.lower() == ".npy":
        return load(path), None
    table = read_table(path)
    label = column(table, LABEL, path)
    paths = next((name for name in table[0] if name in PATH), None)
    texts = [line[label] for line in table]
    is_number = all(text.isascii() and text.isdigit() for text in texts)
    return np.array(texts, np.int64 if is_number else np.str_), [
        line[paths] for line in table
    ] if paths else None


def read_table(path: Path) -> list[dict[str, str]]:
    """The lines of a CSV file, at least one, by names of columns in lower case. Raises: CacheError."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip().lower() for name in next(reader, [])]
            lines = [
                dict(zip(names, map(str.strip, fields), strict=True)) for fields in reader if any(fields)
            ]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise CacheError(
            f"{path}: expected a CSV file in UTF-8 with a line of column names: {error}"
        ) from error
    if not lines:
        raise CacheError(f"{path}: expected lines below the names of the columns, found none")
    return lines


def column(table: Sequence[dict[str, str]], names: Sequence[str], path: Path) -> str:
    """The first of some names that is a column of a table. Raises: CacheError listing its columns."""
    if found := next((name for name in names if name in table[0]), None):
        return found
    raise CacheError(f"{path}: expected a column {' or '.join(names)}, found {', '.join(table[0])}")
