"""Tables of other labels: what they say is what the dataset then has, whatever names and spreadsheets do."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from cache import Paths
from pipeline.datasets.base import ArrayReader, ImageSplit
from pipeline.datasets.corrections import corrected, escaped, joined
from pipeline.errors import DataError

CLASSES = ("dog", "=1+1", "猫,狗", "a|b", "[x]", "'tis")
PATHS = {"train": ("a/1.jpg", "=cmd|x.jpg", "-2.jpg", "犬 «é».jpg"), "test": ("t/1.jpg", "a/1.jpg")}


def splits(several: bool = False, classes: tuple[str, ...] = CLASSES) -> dict[str, ImageSplit]:
    """Every image is of the first class; of several labels the last of all isn't counted."""
    made = {}
    for name in ("train", "test"):
        count = len(PATHS[name])
        labels = np.zeros(count, np.int64)
        if several:
            labels = np.tile(np.array([1, *[0] * (len(classes) - 2), -1], np.int8), (count, 1))
        made[name] = ImageSplit(
            dataset="toy",
            split=name,
            classes=classes,
            paths=Paths(PATHS[name]),
            sizes=np.zeros(count, np.int64),
            labels=labels,
            images=ArrayReader(np.zeros((count, 2, 2, 3), np.uint8)),
        )
    return made


def table(folder: Path, *lines: tuple[str, ...], delimiter: str = ",", mark: str = "") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(lines)
    path = folder / "labels.csv"
    path.write_text(mark + text.getvalue(), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_is_written_for_a_spreadsheet_is_read_as_the_same_labels(tmp_path: Path, delimiter: str) -> None:
    """No field of it begins as a formula does."""
    lines = [
        (escaped(path), escaped(CLASSES[(row + 1) % len(CLASSES)]), "x", "train")
        for row, path in enumerate(PATHS["train"])
    ]
    assert not any(field.startswith(("=", "+", "-", "@")) for line in lines for field in line)
    path = table(tmp_path, ("image", "label", "score", "split"), *lines, delimiter=delimiter, mark="\ufeff")
    found = corrected(splits(), path)
    assert found["train"].labels.tolist() == [1, 2, 3, 4]
    assert found["test"].labels.tolist() == [0, 0]
    assert found["train"].remarks == (f"{path}: gives 4 of the 4 images another label",)


def test_any_set_of_labels_is_read_as_written(tmp_path: Path) -> None:
    """Names with the separator, a list's beginning or an apostrophe too. What isn't counted stays so."""
    for number in range(2 ** (len(CLASSES) - 1)):
        names = [name for k, name in enumerate(CLASSES) if number >> k & 1]
        field = escaped(joined(names, CLASSES))
        path = table(tmp_path, ("image", "labels"), (escaped("=cmd|x.jpg"), field))
        found = corrected(splits(several=True), path)["train"]
        assert found.labels[1].tolist() == [*(number >> k & 1 for k in range(len(CLASSES) - 1)), -1], names
        assert (found.labels[[0, 2, 3]] == splits(several=True)["train"].labels[0]).all()
    path = table(tmp_path, ("image", "labels"), ("-2.jpg", "dog|'tis"))
    assert corrected(splits(several=True), path)["train"].labels[2].tolist() == [1, 0, 0, 0, 0, 1]


def test_labels_are_kept_where_no_line_is_and_splits_told_apart(tmp_path: Path) -> None:
    path = table(tmp_path, ("split", "image", "label"), ("test", "a/1.jpg", "a|b"), ("", "t/1.jpg", "[x]"))
    before = splits()
    found = corrected(before, path)
    assert found["train"].labels.tolist() == [0, 0, 0, 0]
    assert found["test"].labels.tolist() == [4, 3]
    assert before["test"].labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            [("-2.jpg", "dgo")],
            "line 2: column labels: expected one of dog, .*, found 'dgo'; did you mean dog",
        ),
        ([("-2.jpg", "")], "line 2: column labels: expected one of dog"),
        ([("-3.jpg", "dog")], "line 2: column image: expected an image .*, like 'a/1.jpg', found '-3.jpg'"),
        ([("a/1.jpg", "dog")], "line 2: column image: 'a/1.jpg' is in both splits; add a column split"),
        ([("-2.jpg", "dog"), ("-2.jpg", "[x]")], r"line 3: .*: another label than in .*line 2; leave one"),
        ([("-2.jpg", "dog", "3")], "line 2: expected 2 fields as in the first line, found 3"),
        ([], "expected a line for each image that has another label, found none"),
    ],
)
def test_what_a_table_can_t_mean_is_refused_by_its_line(
    tmp_path: Path, lines: list[tuple[str, ...]], problem: str
) -> None:
    with pytest.raises(DataError, match=problem):
        corrected(splits(), table(tmp_path, ("image", "label"), *lines))


def test_an_apostrophe_that_may_belong_to_the_name_is_not_guessed_about(tmp_path: Path) -> None:
    path = table(tmp_path, ("image", "label"), ("-2.jpg", "'x"))
    with pytest.raises(DataError, match="expected one of 'x, x, found \"'x\""):
        corrected(splits(classes=("'x", "x")), path)
    with pytest.raises(DataError, match=r"expected names with \| between them, or a list like"):
        corrected(splits(several=True), table(tmp_path, ("image", "label"), ("-2.jpg", "[dog")))
