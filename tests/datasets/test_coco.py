"""COCO in its own format, in small: labels, crowds, boxes, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.published import coco

from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import ConfigError, DataError

TRAIN = [
    {"image_id": 101, "category_id": 90, "bbox": [1.5, 2.25, 10.0, 20.0]},
    {"image_id": 101, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1},
    {"image_id": 100, "category_id": 7, "bbox": [30.0, 20.0, 10.5, 10.25]},
    {"image_id": 100, "category_id": 7, "bbox": [3.0, 3.0, 0.0, 4.0]},
]
VAL = [{"image_id": 100, "category_id": 1, "bbox": [0, 0, 40, 30]}]


def standard(root: Path, year: str = "2014") -> Path:
    coco(root, f"train{year}", ["b.jpg", "a.jpg", "c.jpg"], TRAIN)
    coco(root, f"val{year}", ["v.jpg"], VAL)
    return root


def opened(root: Path) -> dict[str, ImageSplit]:
    return open_dataset(f"coco:{root}")


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        opened(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("year", ["2014", "2017"])
def test_classes_go_by_category_and_images_by_name(tmp_path: Path, year: str) -> None:
    splits = opened(standard(tmp_path, year))
    train, test = splits["train"], splits["test"]
    assert train.classes == test.classes == ("person", "train", "toothbrush")
    assert train.paths == tuple(f"train{year}/{name}.jpg" for name in "abc")
    assert test.paths == (f"val{year}/v.jpg",)
    assert train.sizes.tolist() == [(tmp_path / p).stat().st_size for p in train.paths]
    assert train.images.read(0).pixels.shape == (30, 40, 3)


def test_crowds_count_for_labels_and_images_without_annotation_are_kept(tmp_path: Path) -> None:
    splits = opened(standard(tmp_path))
    assert splits["train"].labels.tolist() == [[1, 0, 1], [0, 1, 0], [0, 0, 0]]
    assert splits["test"].labels.tolist() == [[1, 0, 0]]
    assert splits["train"].labels.dtype == np.int8


def test_boxes_are_corners_inside_the_image_without_crowds_and_empty_ones(tmp_path: Path) -> None:
    splits = opened(standard(tmp_path))
    assert splits["train"].boxes is not None
    assert [b.tolist() for b in splits["train"].boxes] == [
        [[2, 1.5, 2.25, 11.5, 22.25]],
        [[1, 30, 20, 40, 30]],
        [],
    ]
    assert splits["train"].boxes[2].shape == (0, 5)


def test_2014_wins_over_2017(tmp_path: Path) -> None:
    standard(standard(tmp_path, "2017"))
    assert opened(tmp_path)["test"].paths == ("val2014/v.jpg",)


def test_a_missing_set_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="coco:PATH"):
        open_dataset("coco")
    coco(tmp_path, "train2014", ["a.jpg"], [])
    coco(tmp_path, "val2017", ["a.jpg"], [])
    message = refusal(tmp_path)
    for part in (
        "instances_train2014.json",
        "annotations_trainval2014.zip",
        "cocodataset.org",
        str(tmp_path),
    ):
        assert part in message


DAMAGE: dict[str, tuple[dict[str, Any], str]] = {
    "no images": ({"images": []}, "found no image"),
    "one id twice": (
        {"images": [{"id": 1, "file_name": n, "width": 1, "height": 1} for n in "ab"]},
        "two of one",
    ),
    "one name twice": (
        {"images": [{"id": i, "file_name": "a", "width": 1, "height": 1} for i in (1, 2)]},
        "two of",
    ),
    "no file name": ({"images": [{"id": 1}]}, "none of 'file_name'"),
    "outside": (
        {"images": [{"id": 1, "file_name": "../a", "width": 1, "height": 1}], "annotations": []},
        "image 1: expected the path of an image below the folder",
    ),
    "outside, from Windows": (
        {"images": [{"id": 1, "file_name": "..\\a", "width": 1, "height": 1}], "annotations": []},
        "image 1: expected the path of an image below the folder",
    ),
    "no categories": ({"categories": []}, "found no category"),
    "one class twice": ({"categories": [{"id": i, "name": "cat"} for i in (1, 2)]}, "two of one id or name"),
    "no name of a category": ({"categories": [{"id": 1}]}, "category 1: found none of 'name'"),
    "one name, ids of two kinds": (
        {"images": [{"id": i, "file_name": "a"} for i in (1, "1")]},
        "found no image, or two of one id or name",
    ),
    "unknown category": ({"categories": [{"id": 2, "name": "cat"}]}, "annotation 1, id 0: found the unknown"),
    "unknown image": (
        {"annotations": [{"image_id": 5, "category_id": 1, "bbox": [0, 0, 1, 1]}]},
        "annotation 1, id None: found the unknown image_id 5",
    ),
    "no category": (
        {"annotations": [{"image_id": 100, "id": 7}]},
        "annotation 1, id 7: found none of 'categ",
    ),
    "half a box": (
        {"annotations": [{"image_id": 100, "category_id": 1, "bbox": [0, 0]}]},
        "annotation 1, id None: expected a bbox of four numbers, found [0, 0]",
    ),
    "a box of words": (
        {"annotations": [{"image_id": 100, "category_id": 1, "bbox": ["a", 1, 2, 3]}]},
        "annotation 1, id None: could not convert",
    ),
    "a list": ({"annotations": [1]}, "expected annotations"),
    "nothing": ({"annotations": None}, "expected annotations"),
}


@pytest.mark.fault("voc2007, coco: annotations and images missing or damaged")
@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_annotations_are_named(tmp_path: Path, case: str) -> None:
    standard(tmp_path)
    path = tmp_path / "annotations/instances_val2014.json"
    change, message = DAMAGE[case]
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    found = refusal(tmp_path)
    assert "instances_val2014.json" in found
    assert message in found
    assert "unpack" not in found


def changed(
    root: Path, part: str, change: Callable[[dict[str, Any]], object], encoding: str = "utf-8"
) -> None:
    path = root / f"annotations/instances_{part}.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data), encoding)


@pytest.mark.parametrize("lacking", ["bbox", "null bbox", "empty bbox", "width", "null width", "zero height"])
def test_labels_need_no_boxes_and_no_sizes(tmp_path: Path, lacking: str) -> None:
    """Exports for classification: the same labels; no boxes at all, for some would be missing."""
    expected = opened(standard(tmp_path))

    def change(data: dict[str, Any]) -> None:
        kind, _, field = lacking.rpartition(" ")
        for entry in data["annotations" if field == "bbox" else "images"]:
            entry[field] = {"null": None, "empty": [], "zero": 0}.get(kind)
            if not kind:
                del entry[field]

    changed(tmp_path, "train2014", change)
    found = opened(tmp_path)
    np.testing.assert_array_equal(found["train"].labels, expected["train"].labels)
    assert found["train"].boxes is None
    assert "boxes: 3 annotations have none, or their images no width" in found["train"].ignored[0]
    assert found["test"].boxes is not None
    assert found["test"].ignored == []


def test_crowds_need_no_box(tmp_path: Path) -> None:
    standard(tmp_path)
    changed(tmp_path, "train2014", lambda data: data["annotations"][1].pop("bbox"))
    assert opened(tmp_path)["train"].boxes is not None


def test_a_byte_order_mark_text_ids_and_backslashes_change_nothing(tmp_path: Path) -> None:
    expected = opened(standard(tmp_path))["train"]

    def change(data: dict[str, Any]) -> None:
        for entry in data["annotations"]:
            entry["category_id"] = str(entry["category_id"])
        for entry in data["categories"]:
            entry["id"] = str(entry["id"])
        for entry in data["images"]:
            entry["file_name"] = f".\\{entry['file_name']} "

    changed(tmp_path, "train2014", change, "utf-8-sig")
    found = opened(tmp_path)["train"]
    assert found.paths == expected.paths
    assert found.classes == expected.classes
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_categories_without_images_stay_and_others_are_all_named(tmp_path: Path) -> None:
    standard(tmp_path)
    more = [{"id": 95, "name": "things"}, {"id": 96, "name": "owl"}]
    changed(tmp_path, "train2014", lambda data: data["categories"].extend(more))
    assert "found only in one of them: things, owl" in refusal(tmp_path)
    changed(tmp_path, "val2014", lambda data: data["categories"].extend(more))
    found = opened(tmp_path)["train"]
    assert found.classes == ("person", "train", "toothbrush", "things", "owl")
    assert found.labels.sum(0).tolist() == [1, 1, 1, 0, 0]


def test_litter_that_was_annotated_is_left_out(tmp_path: Path) -> None:
    expected = opened(standard(tmp_path))["train"]

    def change(data: dict[str, Any]) -> None:
        names = "@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/._a.jpg", "@eaDir/b.jpg/SYNOPHOTO_THUMB_M.jpg"
        data["images"] += [{"id": i, "file_name": name} for i, name in enumerate(names)]
        data["annotations"] += [{"image_id": i, "category_id": 1} for i in range(3)]

    changed(tmp_path, "train2014", change)
    found = opened(tmp_path)["train"]
    assert found.paths == expected.paths
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert [said.partition(": ")[2] for said in found.ignored] == [
        "2 images in @eaDir",
        "1 images in __MACOSX",
    ]


@pytest.mark.fault("voc2007, coco: annotations and images missing or damaged")
@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"images": [', b"\xff\xfe", b"[" * 200_000, b"1"])
def test_a_file_of_something_else_is_named(tmp_path: Path, content: bytes) -> None:
    standard(tmp_path)
    (tmp_path / "annotations/instances_train2014.json").write_bytes(content)
    assert "instances_train2014.json: expected annotations of objects" in refusal(tmp_path)


@pytest.mark.fault("voc2007, coco: annotations and images missing or damaged")
def test_missing_images_and_other_categories_are_named(tmp_path: Path) -> None:
    standard(tmp_path)
    (tmp_path / "train2014/c.jpg").rename(tmp_path / "c.jpg")
    assert "train2014/c.jpg can't be read" in refusal(tmp_path)
    (tmp_path / "c.jpg").rename(tmp_path / "train2014/c.jpg")
    path = tmp_path / "annotations/instances_val2014.json"
    data = json.loads(path.read_text())
    data["categories"][0]["name"] = "tram"
    path.write_text(json.dumps(data))
    assert "expected the same categories" in refusal(tmp_path)
