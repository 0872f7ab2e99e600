"""Tables of multi-label images: read as they are meant, or refused in one line that names file and line."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.folders import PIXELS, write

from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import ConfigError, DataError, UserError

ROWS = [
    ["image", "labels", "split"],
    ["b/0.png", "dog | person", "train"],
    ["a.png", "", "train"],
    ["c.png", "Cat", "test"],
]


def table(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return folder / name


def images(folder: Path, *names: str) -> None:
    for i, name in enumerate(names):
        write(folder / name, i)


def standard(folder: Path) -> Path:
    images(folder, "a.png", "b/0.png", "c.png")
    return folder


def opened(path: Path, **options: Any) -> dict[str, ImageSplit]:
    return open_dataset(f"csv:{path}", **options)


def refusal(path: Path | str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        open_dataset(f"csv:{path}", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_labels_classes_and_paths_are_the_tables(tmp_path: Path) -> None:
    splits = opened(table(standard(tmp_path), "\n".join(",".join(row) for row in ROWS)))
    train, test = splits["train"], splits["test"]
    assert train.classes == test.classes == ("Cat", "dog", "person")
    assert (train.paths, test.paths) == (("a.png", "b/0.png"), ("c.png",))
    assert train.labels.tolist() == [[0, 0, 0], [0, 1, 1]]
    assert test.labels.tolist() == [[1, 0, 0]]
    assert train.labels.dtype == np.int8
    assert train.multi_label
    assert train.sizes.tolist() == [(tmp_path / p).stat().st_size for p in train.paths]
    np.testing.assert_array_equal(train.images.read(1).pixels, PIXELS ^ np.uint8(1))


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_byte_order_mark_line_ends_and_quotes_change_nothing(
    tmp_path: Path, mark: bytes, line_end: str
) -> None:
    plain = opened(table(standard(tmp_path), "\n".join(",".join(row) for row in ROWS)))
    quoted = line_end.join(",".join(f'"{field}"' for field in row) for row in ROWS)
    other = opened(table(tmp_path, mark + (quoted + line_end * 2).encode(), "quoted.csv"))
    for name, split in plain.items():
        assert other[name].paths == split.paths
        assert other[name].classes == split.classes
        np.testing.assert_array_equal(other[name].labels, split.labels)


def test_moved_lines_moved_columns_and_further_columns_change_nothing(tmp_path: Path) -> None:
    plain = opened(table(standard(tmp_path), "\n".join(",".join(row) for row in ROWS)))
    moved = [[row[2], f"note {i}", row[1], row[0]] for i, row in enumerate(ROWS)]
    other = opened(table(tmp_path, "\n".join(",".join(row) for row in (moved[0], *moved[:0:-1])), "m.csv"))
    for name, split in plain.items():
        assert other[name].paths == split.paths
        np.testing.assert_array_equal(other[name].labels, split.labels)


def test_unicode_spaces_commas_and_quotes_in_names_work(tmp_path: Path) -> None:
    names = ["ü ber/日本.png", 'a, "b".png', " lead.png", "🐈.png"]
    images(tmp_path / "a folder: näme", *names)
    path = tmp_path / "a folder: näme" / "tä ble.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["image", "labels"], *([name, "é|猫"] for name in names)])
    splits = opened(path, test_fraction=0.5)
    assert sorted(splits["train"].paths + splits["test"].paths) == sorted(names)
    assert splits["train"].classes == ("é", "猫")
    for split in splits.values():
        for row in range(len(split)):
            split.images.read(row)


def test_without_a_split_a_share_of_the_images_is_drawn_by_seed(tmp_path: Path) -> None:
    names = [f"{i:02}.png" for i in range(20)]
    images(tmp_path, *names)
    path = table(tmp_path, "image,labels\n" + "\n".join(f"{name},a" for name in names))
    splits = opened(path, test_fraction=0.3, seed=1)
    assert (len(splits["train"]), len(splits["test"])) == (14, 6)
    assert sorted(splits["train"].paths + splits["test"].paths) == names
    assert list(splits["test"].paths) == sorted(splits["test"].paths)
    assert opened(path, test_fraction=0.3, seed=1)["test"].paths == splits["test"].paths
    assert opened(path, test_fraction=0.3, seed=2)["test"].paths != splits["test"].paths
    for fraction in (0, 0.02):
        with pytest.raises(ConfigError, match="--test-fraction"):
            opened(path, test_fraction=fraction)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_images_are_tested_on_where_there_is_no_test(tmp_path: Path, name: str) -> None:
    text = "\n".join(",".join(row) for row in ROWS)
    assert opened(table(standard(tmp_path), text.replace("test", name)))["test"].paths == ("c.png",)
    write(tmp_path / "d.png")


@pytest.mark.parametrize("name", ["val", "valid", "validation", " Val "])
def test_validation_images_beside_test_are_the_end_of_the_training_split(tmp_path: Path, name: str) -> None:
    write(standard(tmp_path) / "Z.png")
    train, test = opened(
        table(tmp_path, "\n".join(",".join(row) for row in [*ROWS, ["Z.png", "bird", name]]))
    ).values()
    assert test.paths == ("c.png",)
    assert train.paths == ("a.png", "b/0.png", "Z.png")
    assert train.val_rows == 1
    assert train.classes == ("Cat", "bird", "dog", "person")
    assert train.labels[2].tolist() == [0, 1, 0, 0]


def test_a_path_is_relative_to_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images(tmp_path, "pictures/a.png", "lists/b.png")
    text = "image,labels,split\npictures/a.png,x,train\n./lists/../lists/b.png,x,test\n".replace(
        "lists/../", ""
    )
    table(tmp_path, text)
    for base, spelled in ((tmp_path.parent, f"{tmp_path.name}/t.csv"), (tmp_path, "t.csv")):
        monkeypatch.chdir(base)
        splits = opened(Path(spelled))
        assert splits["train"].paths == ("pictures/a.png",)
        assert splits["test"].paths == ("lists/b.png",)
        splits["train"].images.read(0)


@pytest.mark.parametrize(
    "written", ["../p/a.png", "/p/a.png", "p/../../p/a.png", "..\\p\\a.png", " ../p/a.png"]
)
def test_a_path_that_leaves_the_tables_folder_is_refused_with_advice_that_works(
    tmp_path: Path, written: str
) -> None:
    images(tmp_path, "p/a.png", "lists/b.png")
    text = "image,labels,split\n{},x,train\n{}b.png,x,test\n"
    said = refusal(table(tmp_path / "lists", text.format(written, "")))
    assert f"line 2: column image: expected the path of an image below the folder {tmp_path}/lists/" in said
    assert (
        f"found {written!r}; move the table to a folder that holds all images, and write paths from there"
        in said
    )
    assert len(opened(table(tmp_path, text.format("p/a.png", "lists/")))["train"]) == 1


def test_spaces_and_backslashes_are_as_written_only_where_such_a_file_is(tmp_path: Path) -> None:
    names = ["a.png", "b/0.png", " c.png", "d.png ", "e\\f.png", "\u00a0g.png"]
    images(tmp_path, *names)
    written = ["a.png ", " b\\0.png", " c.png", "d.png ", "e\\f.png", "\u00a0g.png"]
    lines = "\n".join(f"{path},x,train" for path in written)
    write(tmp_path / "t.png")
    train = opened(table(tmp_path, f"{HEAD}{lines}\nt.png,x,test"))["train"]
    assert sorted(train.paths) == sorted(names)


def test_a_missing_image_is_shown_as_it_is_with_the_file_that_is_there(tmp_path: Path) -> None:
    images(tmp_path, "Photo 1.JPG", "caf\u00e9.png", "x.png")
    for written, there in (
        ("photo 1.jpg", "'Photo 1.JPG'"),
        ("Photo  1.JPG", "'Photo 1.JPG'"),
        ("cafe\u0301.png", "'caf\u00e9.png'"),
    ):
        said = refusal(table(tmp_path, f"{HEAD}{written},a,train\nx.png,a,test"))
        assert f"{written}" in said.replace("'", "") or repr(written)[1:-1] in said
        assert f"No such file or directory; there is {there}; write it like that" in said
    assert f"the image {tmp_path}/y.png can't" in refusal(
        table(tmp_path, f"{HEAD}y.png,a,train\nx.png,a,test")
    )
    assert f"'{tmp_path}/y  z.png'" in refusal(table(tmp_path, f"{HEAD}y  z.png,a,train\nx.png,a,test"))


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize(
    "head", ["image,labels,split", "\ufeffImage,Label, SPLIT ", "sep=\nimage,labels,split"]
)
def test_other_delimiters_and_spellings_of_columns_change_nothing(
    tmp_path: Path, delimiter: str, head: str
) -> None:
    """As spreadsheets of other countries write tables: empty columns and lines at the end, too."""
    plain = opened(table(standard(tmp_path), "\n".join(",".join(row) for row in ROWS)))
    lines = [head, *(",".join([f'"{row[0]}"', f'"{row[1]}"', row[2].upper()]) for row in ROWS[1:])]
    text = "\r\n".join(line if line == "sep=" else f"{line},," for line in "\n".join(lines).split("\n"))
    text = f"{text}\r\n,,,,\r\n".replace(",", delimiter).replace("sep=", f"sep={delimiter}")
    other = opened(table(tmp_path, text, "other.csv"))
    for name, split in plain.items():
        assert other[name].paths == split.paths
        assert other[name].classes == split.classes
        np.testing.assert_array_equal(other[name].labels, split.labels)


@pytest.mark.parametrize("head", ["filename,tags,split", "Image Path,Category,split", "fname,label,split"])
def test_columns_that_others_call_otherwise_are_found_and_said(tmp_path: Path, head: str) -> None:
    plain = opened(table(standard(tmp_path), "\n".join(",".join(row) for row in ROWS)))
    other = opened(table(tmp_path, "\n".join([head, *(",".join(row) for row in ROWS[1:])]), "other.csv"))
    for name, split in plain.items():
        assert (other[name].paths, other[name].classes) == (split.paths, split.classes)
        np.testing.assert_array_equal(other[name].labels, split.labels)
    assert f"{tmp_path}/other.csv: the column {head.split(',')[0]} has the images" in other["train"].remarks
    both = ["file,image,labels,split,class", *(f"x,{','.join(row)},x" for row in ROWS[1:])]
    assert opened(table(tmp_path, "\n".join(both)))["train"].ignored[-1].endswith("columns file, class")


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("1.0", "0.0"), ("True", "False")])
def test_a_column_of_0_and_1_for_each_class_is_that_class(
    tmp_path: Path, yes: str, no: str, delimiter: str
) -> None:
    plain = opened(table(standard(tmp_path), "\n".join(",".join(row) for row in ROWS)))
    lines = ["name,dog,image,person,width,Cat,split,the bird's"]
    for path, labels, split in ROWS[1:]:
        present = [yes if name in labels else no for name in ("dog", "person", "Cat")]
        lines.append(",".join(["x", present[0], path, present[1], "12", present[2], split, no]))
    other = opened(table(tmp_path, "\n".join(lines).replace(",", delimiter), "one-hot.csv"))
    for name, split in plain.items():
        assert (other[name].paths, other[name].classes) == (split.paths, split.classes)
        np.testing.assert_array_equal(other[name].labels, split.labels)
    assert other["train"].ignored[-1].endswith("columns name, width")
    assert "4 columns of 0 and 1 are the classes" in other["train"].remarks[0]


def test_an_absolute_path_below_the_tables_folder_is_the_image_there(tmp_path: Path) -> None:
    images(tmp_path, "p/a.png", "b.png")
    train = opened(table(tmp_path, f"{HEAD}{tmp_path}/p/a.png,x,train\nb.png,x,test"))["train"]
    assert train.paths == ("p/a.png",)


def test_a_name_without_its_folder_or_suffix_is_refused_with_advice_that_works(tmp_path: Path) -> None:
    images(tmp_path, "p/a.png", "p/b.png", "c.png")
    text = f"{HEAD}a.png,x,train\nb.png,x,test"
    said = refusal(table(tmp_path, text))
    assert said.endswith("there is 'p/a.png'; write it like that, or move the table into p/")
    assert opened(table(tmp_path / "p", text))["train"].paths == ("a.png",)
    said = refusal(table(tmp_path, f"{HEAD}c,x,train\np/a.png,x,test"))
    assert said.endswith("there is 'c.png'; write it like that")


def test_lines_of_val_as_the_test_split_are_said(tmp_path: Path) -> None:
    text = "\n".join(",".join(row) for row in ROWS)
    said = "the lines of val are the test split, as none says test"
    assert said not in str(opened(table(standard(tmp_path), text))["train"].remarks)
    assert said in str(opened(table(tmp_path, text.replace("test", "val")))["train"].remarks)


def test_what_is_not_used_of_a_table_is_named(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")
    litter = ["@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._a.png", ".ipynb_checkpoints/a-checkpoint.png"]
    lines = ["image,labels,split,boxes,width,", "a.png,x,train,1 2 3 4,5,", "b.png,x,test,,,"]
    path = table(tmp_path, "\n".join([*lines, *(f"{name},y,train,,," for name in litter)]))
    train, test = opened(path).values()
    assert train.classes == ("x",)
    assert [len(train), len(test)] == [1, 1]
    assert train.ignored[-1] == f"{path}: columns boxes, width"
    assert [said.removeprefix(f"{path}: ") for said in train.ignored[:-1]] == [
        "1 lines of images in @eaDir",
        "1 lines of images in __MACOSX",
        "1 lines of images in .ipynb_checkpoints",
    ]


def test_a_drawn_test_split_is_stratified_and_keeps_single_images_in_train(tmp_path: Path) -> None:
    names = [f"{i:02}.png" for i in range(45)]
    images(tmp_path, *names)
    labels = ["a"] * 20 + ["b"] * 20 + ["c|a"] + ["lone"] + ["d|b"] * 2 + [""]
    path = table(tmp_path, "image,labels\n" + "\n".join(map(",".join, zip(names, labels, strict=True))))
    drawn = set()
    for seed in range(30):
        train, test = opened(path, test_fraction=0.3, seed=seed).values()
        present = dict(zip(train.classes, test.labels.sum(0).tolist(), strict=True))
        assert (present["a"], present["b"] - present["d"], present["d"]) == (6, 6, 1)
        assert present["c"] == present["lone"] == 0
        assert (train.labels.sum(0) > 0).all()
        drawn.add(tuple(test.paths))
    assert len(drawn) == 30


HEAD = "image,labels,split\n"
REFUSED = {
    "no column image": (
        "picture,labels\na.png,x\n",
        r"line 1: expected a column 'image'.*found picture, labels",
    ),
    "no column labels": ("image,split\na.png,train\n", "line 1: expected a column 'labels'"),
    "two columns labels": ("image,labels,labels\na.png,x,y\n", "line 1: .*'labels'.*found 2 of that name"),
    "colons": ("image:labels\na.png:x\n", "line 1: expected a column 'image'.*found image:labels"),
    "label and labels": ("image,Label,labels\na.png,x,y\n", "line 1: .*'labels'.*found 2 of that name"),
    "quote after a space": (HEAD + 'a.png, "x",train\n', "line 2: found a space before a quote; remove it"),
    "empty file": ("", "line 1: expected a column 'image'.*found nothing"),
    "no lines": (HEAD, "expected a line per image"),
    "no label at all": (HEAD + "a.png,,train\nc.png, ,test\n", "expected names of classes"),
    "missing image": (
        HEAD + "a.png,x,train\nnone.png,x,test\n",
        r"line 3: the image .*/none\.png can't be read",
    ),
    "folder": (HEAD + "a.png,x,train\nb,x,test\n", "line 3: expected the file of an image"),
    "empty image": (HEAD + ",x,train\n", "line 2: column image: .*found ''"),
    "absolute": (HEAD + "/a.png,x,train\n", "line 2: column image: expected the path of an image below"),
    "duplicate": (HEAD + "a.png,x,train\n\n./a.png,y,test\n", r"line 4: .*found a\.png again \(.*, line 2\)"),
    "split": (
        HEAD + "a.png,x,train\nc.png,x,dev\n",
        "line 3: column split: expected train or one of .*'dev'",
    ),
    "empty split": (HEAD + "a.png,x,train\nc.png,x,\n", "line 3: column split: .*found ''"),
    "train alone": (HEAD + "a.png,x,train\n", "none whose column split says test"),
    "test alone": (HEAD + "a.png,x,val\n", "none whose column split says train"),
    "too few fields": (HEAD + "a.png,x\n", "line 2: expected 3 fields .*found 2"),
    "too many fields": (HEAD + "a.png,x,y,train\n", "line 2: expected 3 fields .*found 4"),
    "open quote": (HEAD + 'a.png,x,train\nc.png,"x,test\n', "line 3: expected a line of a CSV file"),
    "after a line break": (
        HEAD + '"a.png","x\ny",train\nnone.png,x,test\n',
        r"line 4: the image .*none\.png",
    ),
    "huge field": (
        HEAD + f"a.png,{'x' * 200_000},train\n",
        "line 2: expected a line of a CSV file: field larger",
    ),
}


@pytest.mark.fault("csv: columns, lines, images, encodings")
@pytest.mark.parametrize("case", REFUSED)
def test_a_table_that_is_not_one_is_refused_by_line(tmp_path: Path, case: str) -> None:
    text, message = REFUSED[case]
    path = table(standard(tmp_path), text)
    with pytest.raises(DataError, match=message) as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.fault("csv: columns, lines, images, encodings")
def test_other_encodings_and_missing_files_are_named(tmp_path: Path) -> None:
    text = "image,labels\nä.png,x\n"
    for encoding in ("latin-1", "utf-16"):
        assert "in UTF-8" in refusal(table(tmp_path, text.encode(encoding)))
    assert "none.csv: can't be read" in refusal(tmp_path / "none.csv")
    (tmp_path / "d").mkdir()
    assert f"found a folder without a CSV file; name the file: csv:{tmp_path}/d/labels.csv" in refusal(
        tmp_path / "d"
    )
    assert f"which holds t.csv; name the file: csv:{tmp_path}/t.csv" in refusal(tmp_path)
    assert "\\x00" in refusal(table(tmp_path, b"image,labels\na\0.png,x\n"))
    assert "csv:PATH" in refusal("")
