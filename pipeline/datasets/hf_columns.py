"""Which columns of a table of the `datasets` library hold images and labels, and what the labels are."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cache import Labels
from pipeline.errors import ConfigError, DataError
from pipeline.wording import did_you_mean, some

if TYPE_CHECKING:
    from datasets import Dataset

IMAGES = "image", "img", "jpg", "jpeg", "png", "webp"
LABELS = "label", "labels", "cls", "class", "classes", "category", "categories", "target", "targets"
"""Names that are looked for first, or at all where a column's type doesn't say what it holds."""


def image_column(parts: Mapping[str, "Dataset"], where: str) -> str:
    """The one column of images, or of bytes. Raises: DataError when there is none, or several."""
    from datasets import Image, Value

    features = next(iter(parts.values())).features
    typed = [name for name, feature in features.items() if isinstance(feature, Image)]
    binary = [name for name, feature in features.items() if _is_bytes(feature, Value)]
    found = typed or binary
    named = [name for name in IMAGES if name in found]
    if len(found) == 1 or named:
        return (named or found)[0]
    raise DataError(
        f"{where}: expected one column of images, found {some(found) or 'none'} among {some(features, 12)}; "
        "call the right one image (rename_column) and save the set by save_to_disk"
    )


def label_column(parts: Mapping[str, "Dataset"], asked: str | None, where: str) -> str:
    """The column of labels, by its type or else by its name; `a.b` is the field b of the column a.

    Raises: ConfigError when it can't be told, or isn't there, naming those that could be.
    """
    from datasets import ClassLabel

    known = dict(_flat(next(iter(parts.values())).features))
    could_be = [name for name, feature in known.items() if _is_label(_inner(feature))]
    if asked is not None:
        if asked not in could_be:
            hint = did_you_mean(asked, could_be)
            raise ConfigError(
                f"--label-column: expected one of {some(could_be, 12) or 'none'}, a class, text or whole "
                f"number in each row or a list of them, found {asked!r}{hint}"
            )
        return asked
    typed = [name for name in could_be if isinstance(_inner(known[name]), ClassLabel)]
    named = [name for name in typed or could_be if name.rpartition(".")[2] in LABELS]
    found = typed if len(typed) == 1 else named
    if len(found) != 1:
        raise ConfigError(
            f"--label-column: {where} has {some(found or could_be, 12) or 'no column'} that could be the "
            "label; name one" + ("" if could_be else ", text or a whole number, in the set")
        )
    return found[0]


def read_labels(
    data: Mapping[str, "Dataset"], column: str, where: str
) -> tuple[tuple[str, ...], dict[str, Labels]]:
    """The classes, and the labels of each part: (N,), or (N, K) where the column holds lists.

    Raises: DataError naming the first row without a label, or parts with other classes.
    """
    kinds = [dict(_flat(part.features)).get(column) for part in data.values()]
    listed = [getattr(_inner(kind), "names", None) for kind in kinds]
    if any(names != listed[0] for names in listed) or len({_is_list(kind) for kind in kinds}) > 1:
        raise DataError(
            f"{where}: expected the same classes in {', '.join(data)}, found others in column {column}"
        )
    many = _is_list(kinds[0])
    values = {name: list(_values(part, column)) for name, part in data.items()}
    for name, found in values.items():
        _refuse_missing(found, many, f"{where}, {name}, column {column}")
    if listed[0] is not None:
        classes, place = tuple(listed[0]), {i: i for i in range(len(listed[0]))}
    else:
        occurring = sorted(
            {v for found in values.values() for value in found for v in (value if many else [value])}
        )
        classes, place = tuple(map(str, occurring)), {value: i for i, value in enumerate(occurring)}
    if not classes:
        raise DataError(f"{where}, column {column}: expected labels, found none in any row")
    return classes, {name: _encoded(found, place, many) for name, found in values.items()}


def _encoded(values: Sequence[Any], place: Mapping[Any, int], many: bool) -> Labels:
    if not many:
        return np.array([place[value] for value in values], np.int64)
    labels = np.zeros((len(values), len(place)), np.int8)
    for row, found in enumerate(values):
        labels[row, [place[value] for value in found]] = 1
    return labels


def _refuse_missing(values: Sequence[Any], many: bool, where: str) -> None:
    for row, value in enumerate(values):
        items = value if many and value is not None else [value]
        if any(item is None or item == -1 for item in items):
            raise DataError(
                f"{where}: expected a label in each row, found none in row {row}; leave such rows out "
                "(filter) and save the set by save_to_disk"
            )
        if len(set(items)) < len(items):
            raise DataError(
                f"{where}: expected the classes of an image, found {items[:12]} in row {row}, one of them "
                "twice; of zeros and ones make a list of names"
            )


def _values(part: "Dataset", column: str) -> Iterator[Any]:
    name, *fields = column.split(".")
    for value in part.select_columns([name])[:][name]:
        for field in fields:
            value = value and value[field]
        yield value


def _flat(features: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name → type, of all columns and the fields of those that are structures."""
    for name, feature in features.items():
        if isinstance(feature, dict):
            yield from _flat(feature, f"{above}{name}.")
        else:
            yield above + name, feature


def _is_list(feature: Any) -> bool:
    return isinstance(feature, list) or hasattr(feature, "feature")


def _inner(feature: Any) -> Any:
    """What a list holds, or the feature itself."""
    if isinstance(feature, list):
        return feature[0]
    return getattr(feature, "feature", feature)


def _is_label(feature: Any) -> bool:
    dtype = str(getattr(feature, "dtype", "")).removeprefix("large_")
    return dtype in ("string", "bool") or dtype.startswith(("int", "uint"))


def _is_bytes(feature: Any, value_type: type) -> bool:
    inner = feature.get("bytes") if isinstance(feature, dict) else feature
    return isinstance(inner, value_type) and str(getattr(inner, "dtype", "")).endswith("binary")
