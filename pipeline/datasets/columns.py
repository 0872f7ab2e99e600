"""Which columns of a table say what of an image.

image,labels,split      or other words for them: filename, tags (`WORDS`)
image,cat,dog           a column of 0 and 1 for each class, where no column has the labels
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.errors import DataError
from pipeline.wording import shown

NAMES = "image", "labels", "split"
WORDS = {
    "image": {
        *("file", "filename", "file_name", "fname", "filepath", "file_path", "path", "img", "img_path"),
        *("image_path", "image_name", "image_file", "image_filename"),
    },
    "labels": {"tag", "tags", "class", "classes", "category", "categories", "target", "targets"},
}
"""What else these columns are called, where none has the name itself."""
TRUE, FALSE = frozenset(["1", "1.0", "true"]), frozenset(["0", "0.0", "false"])

Record = tuple[str, list[str]]
"""FILE, line N, and the line's fields."""


class Columns(NamedTuple):
    """A table's columns, and its lines below them."""

    names: list[str]
    """`NAMES` among the table's own."""
    records: Iterable[Record]
    remarks: list[str]
    """How columns of other names were understood."""


def understood(place: str, header: Sequence[str], records: Iterable[Record]) -> Columns:
    """The table with columns image and labels. Raises: DataError unless each of `NAMES` is there once."""
    names, remarks = named(header), list[str]()
    for name, was in zip(names, header, strict=True):
        if name in WORDS and _plain(was) in WORDS[name]:
            remarks.append(f"the column {shown(was.strip())} has the {name}{'s' * (name == 'image')}")
    if "image" in names and "labels" not in names:
        names, records, classes = _from_one_hot(names, list(records))
        if classes:
            remarks.append(f"{classes} columns of 0 and 1 are the classes")
    _check(place, header, names)
    return Columns(names, records, remarks)


def column_names(place: str, header: Sequence[str]) -> list[str]:
    """The columns' names, as `named`. Raises: DataError unless each of `NAMES` is there once."""
    names = named(header)
    _check(place, header, names)
    return names


def _check(place: str, header: Sequence[str], names: Sequence[str]) -> None:
    for name in NAMES:
        count = names.count(name)
        if count > 1 or (name != "split" and not count):
            found = f"{count} of that name" if count else ", ".join(header)[:200] or "nothing"
            raise DataError(
                f"{place}: expected a column {name!r} (image,labels[,split], or a column of 0 and 1 for each "
                f"class), found {found}"
            )


def named(header: Sequence[str]) -> list[str]:
    """The columns' names: those of `NAMES` for what means them, and others as they are."""
    plain = ["labels" if _plain(name) == "label" else _plain(name) for name in header]
    names = [name if name in NAMES else was.strip() for name, was in zip(plain, header, strict=True)]
    for meant, words in WORDS.items():
        if meant not in names:
            names = [meant if word in words else name for name, word in zip(names, plain, strict=True)]
    return names


def _plain(name: str) -> str:
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def _from_one_hot(names: list[str], records: list[Record]) -> tuple[list[str], list[Record], int]:
    """The table with a column of labels behind it, lists of the names of those columns that have a 1, and the
    number of such columns; as it is where there are fewer than two."""
    fits = [fields for _, fields in records if len(fields) == len(names)]
    values = [{field.strip().casefold() for field in column} for column in zip(*fits, strict=True)]
    known = [name and name not in NAMES and found <= TRUE | FALSE for name, found in zip(names, values)]  # noqa: B905
    classes = [i for i, is_class in enumerate(known) if is_class]
    if len(classes) < 2:
        return names, records, 0

    def labels(fields: list[str]) -> str:
        present = [names[i] for i in classes if fields[i].strip().casefold() in TRUE]
        return f"[{', '.join(_quoted(name) for name in present)}]"

    lines = [
        (place, [*fields, labels(fields)] if len(fields) == len(names) else fields)
        for place, fields in records
    ]
    # A class is no column that goes unused: its name is dropped.
    kept = ["" if i in classes else name for i, name in enumerate(names)]
    return [*kept, "labels"], lines, len(classes)


def _quoted(name: str) -> str:
    return f"'{name}'" if '"' in name else f'"{name}"'
