"""The lines of a CSV file, as programs and countries write them."""

import contextlib
import csv
import os
import re
from collections.abc import Iterator
from itertools import chain

from cache.remote import is_url
from pipeline.datasets.columns import named
from pipeline.datasets.places import open_text
from pipeline.errors import DataError
from pipeline.wording import shown, some

DELIMITERS = ",;\t|"


def records(path: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (place, fields) for each line that isn't empty. Raises: DataError when the file is no table."""
    line = 1
    try:
        with open_text(path, "utf-8-sig", newline="") as file:
            first = file.readline()
            said = re.fullmatch(r"\W?sep=(.)\W*", first)  # a line that some spreadsheets write first
            skipped, first = (1, file.readline()) if said else (0, first)
            delimiter, line = said[1] if said else _delimiter(first), 1 + skipped
            reader = csv.reader(chain([first], file), delimiter=delimiter, strict=True)
            for fields in reader:
                place = f"{path}, line {line}"
                if any(field[:1].isspace() and field.lstrip()[:1] == '"' for field in fields):
                    raise DataError(f"{place}: found a space before a quote; remove it")
                if any(map(str.strip, fields)):
                    yield place, fields
                line = skipped + reader.line_num + 1  # a quoted field may hold line breaks
    except IsADirectoryError as error:
        if is_url(path):
            raise DataError(f"{path}: expected a CSV file, found a folder; name the file") from error
        tables = sorted(name for name in os.listdir(path) if name.casefold().endswith(".csv"))
        found = f"which holds {some(map(shown, tables))}" if tables else "without a CSV file"
        name = os.path.join(path, tables[0] if tables else "labels.csv")
        raise DataError(
            f"{path}: expected a CSV file, found a folder {found}; name the file: csv:{name}"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: expected a CSV file in UTF-8, found other bytes; save it as UTF-8"
        ) from error
    except (csv.Error, ValueError) as error:
        raise DataError(f"{path}, line {line}: expected a line of a CSV file: {error}") from error


def _delimiter(first: str) -> str:
    """What separates the columns: it makes columns `image` and `labels` of the first line, or `image` and two
    others. Else a comma."""
    for wanted, least in ({"image", "labels"}, 2), ({"image"}, 3):
        for delimiter in DELIMITERS:
            with contextlib.suppress(csv.Error):
                names = named(next(csv.reader([first], delimiter=delimiter), []))
                if wanted <= set(names) and len(names) >= least:
                    return delimiter
    return ","
