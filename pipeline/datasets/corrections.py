"""A table of other labels for images of a dataset: what evaluate.py --label-issues writes, corrected.

    image,label
    photos/0001.jpg,dog
    photos/0002.jpg,dog|person

It is read as a csv: dataset is (separators, UTF-8), with these columns and, if need be, split (train or
test); others are not used. Images that it doesn't list keep their labels. A single label is the whole field;
several stand between |, or are a JSON list. An apostrophe before a name is the one that keeps a spreadsheet
from taking it for a formula.
"""

import dataclasses
import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.datasets.base import ImageSplit
from pipeline.datasets.columns import column_names
from pipeline.datasets.places import place as place_of
from pipeline.datasets.records import records
from pipeline.errors import DataError
from pipeline.wording import did_you_mean, shown, some

SEPARATOR = "|"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
"""What a spreadsheet takes for the beginning of a formula, and the sign that says it is none."""


def corrected(splits: Mapping[str, ImageSplit], path: str) -> dict[str, ImageSplit]:
    """The splits with the labels of a table. Raises: DataError naming the line, for an image or a class that
    the dataset doesn't have, or two labels of one image."""
    path = place_of(path)
    table = records(path)
    place, header = next(table, (f"{path}, line 1", []))
    names = column_names(place, header)
    rows = {name: {image: row for row, image in enumerate(split.paths)} for name, split in splits.items()}
    labels = {name: split.labels.copy() for name, split in splits.items()}
    said = dict[tuple[str, int], tuple[str, object]]()
    for place, fields in table:
        if len(fields) != len(names):
            raise DataError(
                f"{place}: expected {len(names)} fields as in the first line, found {len(fields)}; "
                "quote a field that has a comma in it"
            )
        line = dict(zip(names, fields, strict=True))
        name, row = _find(place, line["image"], line.get("split", ""), rows)
        new = _label(place, line["labels"], splits[name], row)
        before, was = said.setdefault((name, row), (place, np.asarray(new).tolist()))
        if was != np.asarray(new).tolist():
            raise DataError(f"{place}: column labels: another label than in {before}; leave one of them out")
        labels[name][row] = new
    if not said:
        raise DataError(f"{path}: expected a line for each image that has another label, found none")
    return {name: _with(split, labels[name], path) for name, split in splits.items()}


def _with(split: ImageSplit, labels: NDArray[np.integer], path: str) -> ImageSplit:
    differ = split.labels != labels
    count = int((differ.any(1) if split.multi_label else differ).sum())
    remark = f"{path}: gives {count:,} of the {len(split):,} images another label"
    return dataclasses.replace(split, labels=labels, remarks=(*split.remarks, remark))


def _find(place: str, written: str, split: str, rows: Mapping[str, Mapping[str, int]]) -> tuple[str, int]:
    """The split and the row of an image. Raises: DataError."""
    name = split.strip().casefold()
    asked = [name] if name in rows else list(rows)
    if name and name not in rows:
        raise DataError(f"{place}: column split: expected {' or '.join(rows)}, found {split!r}")
    images = [image for image in dict.fromkeys(_unescaped(written)) if any(image in rows[s] for s in asked)]
    there = [s for s in asked if any(image in rows[s] for image in images)]
    if len(images) == 1 and len(there) == 1:
        return there[0], rows[there[0]][images[0]]
    if images:
        problem = (
            "is in both splits; add a column split" if len(there) > 1 else "may be two images; rename one"
        )
        raise DataError(f"{place}: column image: {written!r} {problem}")
    example = next((image for s in asked for image in rows[s]), "")
    raise DataError(
        f"{place}: column image: expected an image of the dataset, like {example!r}, found {written!r}; "
        "correct it, or leave the line out"
    )


def _label(place: str, text: str, split: ImageSplit, row: int) -> NDArray[np.integer] | int:
    """A class, or a row of labels: what isn't counted stays so, unless it is said to be there. Raises:
    DataError."""
    known = {name: k for k, name in enumerate(split.classes)}
    if not split.multi_label:
        return known[_name(place, text, known)]
    new = np.minimum(split.labels[row], 0)
    for name in _names(place, text, known):
        new[known[_name(place, name, known)]] = 1
    return new


def _names(place: str, text: str, known: Collection[str]) -> Sequence[str]:
    if not text.strip():
        return []
    if any(name in known for name in _unescaped(text)):
        return [text]
    if not text.lstrip().startswith("["):
        return text.split(SEPARATOR)
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(
            f'{place}: column labels: expected names with | between them, or a list like ["dog", "cat"], '
            f"found {text!r}"
        )
    return names


def _name(place: str, text: str, known: Collection[str]) -> str:
    """The class that is meant. Raises: DataError."""
    found = [name for name in dict.fromkeys(_unescaped(text)) if name in known]
    if len(found) != 1:
        problem = f"expected one of {some(map(shown, known), 20)}, found {text!r}{did_you_mean(text, known)}"
        raise DataError(f"{place}: column labels: {problem}")
    return found[0]


def _unescaped(text: str) -> list[str]:
    """What a field may stand for: itself, without spaces around it, without the apostrophe."""
    return [own for whole in (text, text.strip()) for own in (whole, whole.removeprefix("'"))]


def escaped(text: str) -> str:
    """A text for a field, that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(FORMULA) else text


def joined(names: Sequence[str], known: Collection[str]) -> str:
    """Labels as a field that is read as these."""
    text = SEPARATOR.join(names)
    if len(names) == 1 and text.strip() and not text.startswith("'"):
        return text
    plain = all(name == name.strip() and name and SEPARATOR not in name for name in names)
    if plain and text not in known and not text.startswith(("[", "'")):
        return text
    return json.dumps(list(names), ensure_ascii=False) if names else ""
