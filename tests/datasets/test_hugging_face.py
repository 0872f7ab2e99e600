"""Sets that the `datasets` library writes: the same images and labels, or one line that says what to do."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, List, Value
from pyarrow.parquet import write_table
from support.folders import PIXELS
from support.hub import labelled, png, tar, with_column
from xxhash import xxh3_128_digest

from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import UserError


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library unpacks goes here, and not to the user's own store."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "store")


def opened(path: object, **options: Any) -> tuple[ImageSplit, ImageSplit]:
    splits = open_dataset(f"hf:{path}", **options)
    return splits["train"], splits["test"]


def refusal(path: object, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        opened(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check_images(split: ImageSplit, values: list[int]) -> None:
    """The images are those of `png`, each with the digest and the size of its bytes."""
    assert len(split) == len(values)
    for reader in (split.images, pickle.loads(pickle.dumps(split.images))):
        for row, value in enumerate(values):
            image = reader.read(row)
            np.testing.assert_array_equal(image.pixels, PIXELS ^ np.uint8(value))
            assert image.digest == reader.digest(row) == xxh3_128_digest(png(value))
    assert split.sizes.tolist() == [len(png(value)) for value in values]


def test_a_saved_folder_has_splits_and_validation_images_at_the_end(tmp_path: Path) -> None:
    parts = {
        "test": labelled(3, 20),
        "validation": labelled(4, 10),
        "train": labelled(6),
        "extra": labelled(1),
    }
    DatasetDict(parts).save_to_disk(tmp_path / "set")  # type: ignore[arg-type]
    train, test = opened(tmp_path / "set")
    assert (train.val_rows, test.val_rows) == (4, 0)
    check_images(train, [*range(6), *range(10, 14)])
    check_images(test, [20, 21, 22])
    assert train.classes == test.classes == ("cat", "dog", "eel")
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    assert list(train.paths)[5:7] == ["train/000005/5.png", "validation/000000/10.png"]
    assert train.remarks == [f"hf:{tmp_path}/set: images are in the column image, labels in label"]
    assert train.ignored == [f"hf:{tmp_path}/set: split extra"]
    check_images(train.take([7, 0]), [11, 0])


def test_one_part_is_split_by_class_and_seed(tmp_path: Path) -> None:
    labelled(30).save_to_disk(tmp_path / "set")
    train, test = opened(tmp_path / "set", test_fraction=0.4, seed=3)
    assert np.bincount(test.labels).tolist() == [4, 4, 4]
    rows = [int(path.split("/")[1]) for path in test.paths]
    check_images(test, rows)
    assert test.paths == opened(tmp_path / "set", test_fraction=0.4, seed=3)[1].paths
    assert not set(train.paths) & set(test.paths)


def test_validation_is_the_test_split_where_there_is_no_other(tmp_path: Path) -> None:
    DatasetDict({"train": labelled(4), "dev": labelled(2, 9)}).save_to_disk(tmp_path / "set")
    train, test = opened(tmp_path / "set")
    assert train.val_rows == 0
    check_images(test, [9, 10])


def test_a_filtered_and_shuffled_set_keeps_its_rows(tmp_path: Path) -> None:
    labelled(9).select([8, 3, 3, 1]).save_to_disk(tmp_path / "set")
    train, test = opened(tmp_path / "set", test_fraction=0.5)
    values = [[8, 3, 3, 1][int(path.split("/")[1])] for path in (*train.paths, *test.paths)]
    check_images(train, values[: len(train)])
    assert [value % 3 for value in values] == [*train.labels, *test.labels]


def test_parquet_files_belong_to_the_split_of_their_name(tmp_path: Path) -> None:
    folder = tmp_path / "training sets" / "data"
    folder.mkdir(parents=True)
    for name, part in (("train-0", labelled(3)), ("train-1", labelled(2, 3)), ("test", labelled(3, 7))):
        part.to_parquet(folder / f"{name}.parquet")
    for path in (folder, folder.parent, folder / "*.parquet"):
        train, test = opened(path)
        check_images(train, [0, 1, 2, 3, 4])
        check_images(test, [7, 8, 9])
        assert train.classes == ("cat", "dog", "eel")


def test_parquet_of_another_program_holds_bytes_and_texts(tmp_path: Path) -> None:
    import pandas as pd

    columns = {"img": [png(i) for i in range(8)], "class": ["b", "a"] * 4}
    pd.DataFrame(columns).to_parquet(tmp_path / "all.parquet")
    train, test = opened(tmp_path / "all.parquet", test_fraction=0.25)
    assert train.classes == ("a", "b")
    assert (len(train), len(test)) == (6, 2)
    rows = [int(path.split("/")[1]) for path in train.paths]
    check_images(train, rows)
    assert train.labels.tolist() == [1 - row % 2 for row in rows]


def test_webdataset_files_hold_images_and_numbers_of_classes(tmp_path: Path) -> None:
    for part, rows in (("train-00", range(3)), ("train-01", range(3, 5)), ("val-00", range(5, 8))):
        members = {}
        for i in rows:
            members |= {
                f"{i:04}.png": png(i),
                f"{i:04}.cls": str(7 + i % 2).encode(),
                f"{i:04}.json": b'{"a": 1}',
            }
        tar(tmp_path / "shards" / f"{part}.tar", members)
    train, test = opened(tmp_path / "shards")
    check_images(train, [0, 1, 2, 3, 4])
    check_images(test, [5, 6, 7])
    assert train.classes == ("7", "8")
    assert train.labels.tolist() == [0, 1, 0, 1, 0]
    assert list(train.paths)[1] == "train/000001/0001.png"


@pytest.mark.parametrize(
    ("values", "feature"),
    [
        ([["b", "a"], [], ["c"]] * 2, List(Value("string"))),
        ([[1, 0], [], [2]] * 2, List(ClassLabel(names=["a", "b", "c"]))),
    ],
)
def test_lists_are_several_labels_to_an_image(tmp_path: Path, values: Any, feature: Any) -> None:
    with_column(6, "labels", values, feature).save_to_disk(tmp_path / "set")
    train, test = opened(tmp_path / "set", test_fraction=0.4)
    assert train.multi_label
    assert train.classes == ("a", "b", "c")
    both = dict(
        zip((*train.paths, *test.paths), (*train.labels.tolist(), *test.labels.tolist()), strict=True)
    )
    assert [both[path] for path in sorted(both)] == [[1, 1, 0], [0, 0, 0], [0, 0, 1]] * 2


def test_numbers_are_classes_in_the_order_of_numbers(tmp_path: Path) -> None:
    with_column(6, "label", [10, 9, -2] * 2, Value("int32")).save_to_disk(tmp_path / "set")
    assert opened(tmp_path / "set", test_fraction=0.5)[0].classes == ("-2", "9", "10")


def test_the_column_of_labels_is_asked_for_where_several_could_be(tmp_path: Path) -> None:
    data = labelled(6).rename_column("label", "fine")
    data = data.add_column("coarse", [0, 1] * 3).cast_column("coarse", ClassLabel(names=["x", "y"]))  # type: ignore[call-arg]
    data.save_to_disk(tmp_path / "set")
    said = refusal(tmp_path / "set")
    assert said.startswith("--label-column: hf:")
    assert "has fine, coarse that could be the label; name one" in said
    assert opened(tmp_path / "set", label_column="coarse", test_fraction=0.4)[0].classes == ("x", "y")
    assert "expected one of fine, coarse" in refusal(tmp_path / "set", label_column="corse")
    assert "did you mean coarse?" in refusal(tmp_path / "set", label_column="corse")


def test_a_field_of_a_column_may_be_the_label(tmp_path: Path) -> None:
    members = {}
    for i in range(4):
        members |= {f"{i}.png": png(i), f"{i}.json": f'{{"kind": "k{i % 2}", "note": "n"}}'.encode()}
    tar(tmp_path / "a.tar", members)
    assert "json.kind, json.note" in refusal(tmp_path / "a.tar")
    assert opened(tmp_path / "a.tar", label_column="json.kind", test_fraction=0.5)[0].classes == ("k0", "k1")


def test_images_may_be_files_that_the_table_names(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(4)]
    for i, file in enumerate(files):
        file.write_bytes(png(i))
    features = Features({"image": Image(), "label": Value("string")})
    data = Dataset.from_dict({"image": list(map(str, files)), "label": ["a", "b"] * 2}, features)
    assert data.with_format("arrow")[0]["image"][0]["bytes"].as_py() is None  # type: ignore[index]
    write_table(data.with_format("arrow")[:], tmp_path / "set.parquet")
    train, _ = opened(tmp_path / "set.parquet", test_fraction=0.5)
    assert train.sizes.tolist() == [len(png(int(path.split("/")[1]))) for path in train.paths]
    assert train.images.digest(0) == xxh3_128_digest(png(int(train.paths[0].split("/")[1])))


def test_a_changed_table_has_changed_images(tmp_path: Path) -> None:
    def statuses() -> np.ndarray:
        found = opened(tmp_path / "set", test_fraction=0.5)[0].images.statuses()
        assert found is not None
        return found

    labelled(6).save_to_disk(tmp_path / "set")
    before = statuses()
    assert before.shape == (3, 3)
    assert np.array_equal(before, statuses())
    (file,) = (tmp_path / "set").glob("*.arrow")
    file.write_bytes(file.read_bytes())
    assert (statuses()[:, 2] > before[:, 2]).all()


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("none", with_column(3, "label", [0, None, 1], ClassLabel(names=["a", "b"])), "found none in row 1"),
        ("unknown", with_column(3, "label", [0, -1, 1], ClassLabel(names=["a", "b"])), "found none in row 1"),
        ("ones", with_column(2, "label", [[0, 1, 1], [1, 0, 0]], List(Value("int8"))), "one of them twice"),
        ("no label", with_column(2, "caption", [1.5, 2.5], Value("float32")), "has no column that could be"),
        ("no image", labelled(3).remove_columns("image"), "expected one column of images, found none"),
    ],
)
def test_columns_that_are_no_images_or_labels_are_refused(
    tmp_path: Path, name: str, data: Dataset, problem: str
) -> None:
    data.save_to_disk(tmp_path / name)
    assert problem in refusal(tmp_path / name)


def test_splits_that_say_neither_train_nor_test_are_refused(tmp_path: Path) -> None:
    DatasetDict({"a": labelled(3), "b": labelled(3)}).save_to_disk(tmp_path / "set")
    assert "expected splits called train and test or validation, found a, b" in refusal(tmp_path / "set")


def test_splits_of_other_classes_are_refused(tmp_path: Path) -> None:
    other = labelled(3, names=("cat", "dog", "fox"))
    DatasetDict({"train": labelled(3), "test": other}).save_to_disk(tmp_path / "set")
    assert "expected the same classes in train, test" in refusal(tmp_path / "set")


def test_missing_foreign_and_damaged_files_are_refused(tmp_path: Path) -> None:
    assert "found none; image files are read as folder:PATH" in refusal(tmp_path)
    assert "found none" in refusal(tmp_path / "gone.parquet")
    assert "found none" in refusal(tmp_path / "*.tar")
    (tmp_path / "bad.parquet").write_bytes(b"hello")
    assert "can't be read by the library datasets" in refusal(tmp_path / "bad.parquet")
    (tmp_path / "bad.tar").write_bytes(b"hello")
    assert "can't be read by the library datasets" in refusal(tmp_path / "bad.tar")


def test_an_image_that_is_missing_or_damaged_is_named_by_its_row(tmp_path: Path) -> None:
    images = [{"bytes": b"no", "path": None}, None, *[{"bytes": png(1), "path": None}] * 2]
    features = Features({"image": Image(), "label": Value("string")})
    Dataset.from_dict({"image": images, "label": ["a", "b"] * 2}, features).save_to_disk(tmp_path / "set")
    both = {
        path: (split, row)
        for split in opened(tmp_path / "set", test_fraction=0.5)
        for row, path in enumerate(split.paths)
    }
    for row, problem in ((0, "row 0: "), (1, "row 1: there is no image")):
        split, place = both[f"train/{row:06}"]
        with pytest.raises(UserError, match=problem):
            split.images.read(place)


def test_a_set_of_the_hub_without_a_network_names_the_way_out(tmp_path: Path) -> None:
    code = "from pipeline.datasets.base import open_dataset; open_dataset('hf:beans')"
    places = {
        "HF_ENDPOINT": "https://hub.invalid",
        "HF_HOME": str(tmp_path),
        "http_proxy": "",
        "https_proxy": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | places, timeout=120
    )
    said = done.stderr.splitlines()[-1]
    assert said.startswith("pipeline.errors.DataError: hf:beans: not in the library's store")
    assert said.endswith("load_dataset('beans').save_to_disk('FOLDER'), and give hf:FOLDER here")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert refusal("/x").endswith('/x: needs the package datasets; pip install "ten-crop-cache[datasets]"')
