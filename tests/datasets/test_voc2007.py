"""VOC 2007 in its own format, in small: labels, difficult objects, boxes, and what is refused."""

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.published import VocObject, voc
from torchvision.datasets import VOCDetection
from torchvision.datasets import voc as torchvision_voc

from pipeline.datasets import voc2007
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import DataError

BOX = (3, 4, 10, 20)
SETS: dict[str, dict[str, list[VocObject]]] = {
    "trainval": {
        "000012": [("car", BOX, False)],
        "000005": [("dog", BOX, False), ("dog", (1, 1, 40, 30), True), ("chair", BOX, True)],
        "000007": [],
    },
    "test": {"000001": [("person", (8, 12, 35, 30), False), ("dog", (1, 1, 2, 2), False)]},
}


def opened(root: Path) -> dict[str, ImageSplit]:
    return open_dataset(f"voc2007:{root}")


def refusal(root: Path) -> str:
    with pytest.raises(DataError) as caught:
        opened(root)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def present(split: ImageSplit, row: int) -> dict[str, int]:
    """The classes that aren't 0."""
    return {split.classes[k]: int(split.labels[row, k]) for k in np.flatnonzero(split.labels[row])}


def test_images_are_those_of_trainval_and_test_sorted(tmp_path: Path) -> None:
    splits = opened(voc(tmp_path, SETS))
    stems = {name: [Path(p).stem for p in split.paths] for name, split in splits.items()}
    assert stems == {"train": ["000005", "000007", "000012"], "test": ["000001"]}
    train = splits["train"]
    assert train.paths[0] == "VOCdevkit/VOC2007/JPEGImages/000005.jpg"
    assert train.sizes.tolist() == [(tmp_path / p).stat().st_size for p in train.paths]
    for row in range(3):
        assert train.images.read(row).pixels.shape == (30, 40, 3)


def test_labels_are_what_torchvisions_reader_finds_in_the_files(tmp_path: Path) -> None:
    for name, split in opened(voc(tmp_path, SETS)).items():
        data = VOCDetection(tmp_path, "2007", voc2007.SETS[name])  # type: ignore[index]
        for i in range(len(data)):
            annotation: dict[str, Any] = data[i][1]["annotation"]
            row = split.paths.index(f"VOCdevkit/VOC2007/JPEGImages/{Path(data.images[i]).name}")
            expected: dict[str, int] = {}
            for entry in annotation["object"]:
                label = -1 if entry["difficult"] == "1" else 1
                expected[entry["name"]] = max(expected.get(entry["name"], -1), label)
            assert present(split, row) == expected


def test_a_class_whose_objects_are_all_difficult_is_not_counted(tmp_path: Path) -> None:
    train = opened(voc(tmp_path, SETS))["train"]
    assert present(train, 0) == {"dog": 1, "chair": -1}
    assert present(train, 1) == {}
    assert train.labels.dtype == np.int8


def test_boxes_lie_between_pixels_and_leave_difficult_objects_out(tmp_path: Path) -> None:
    """A box of columns 3 to 10, counted from 1, is eight wide and begins after two columns."""
    splits = opened(voc(tmp_path, SETS))
    assert splits["train"].boxes is not None
    dog = splits["train"].classes.index("dog")
    assert [b.tolist() for b in splits["train"].boxes][:2] == [[[dog, 2, 3, 10, 20]], []]
    assert splits["test"].boxes is not None
    person = splits["test"].classes.index("person")
    assert splits["test"].boxes[0].tolist() == [[person, 7, 11, 35, 30], [dog, 0, 0, 2, 2]]


def archive(tmp_path: Path, key: str, name: str, patch: pytest.MonkeyPatch) -> None:
    """Put a set's archive where a download would be, under a digest of its own."""
    made = voc(tmp_path / f"made-{key}", {name: SETS[name]})
    entry = torchvision_voc.DATASET_YEAR_DICT[key]
    path = tmp_path / "root" / entry["filename"]
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        tar.add(made / "VOCdevkit", "VOCdevkit")
    patch.setitem(entry, "md5", hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest())


def test_archives_put_in_place_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voc2007, "ROOT", tmp_path / "root")
    for key, name in (("2007", "trainval"), ("2007-test", "test")):
        archive(tmp_path, key, name, monkeypatch)
    splits = open_dataset("voc2007")
    assert (len(splits["train"]), len(splits["test"])) == (3, 1)
    for path in (tmp_path / "root").glob("*.tar"):
        path.unlink()
    assert open_dataset("voc2007")["train"].paths == splits["train"].paths


def test_without_a_network_the_error_names_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(voc2007, "ROOT", tmp_path / "root")
    monkeypatch.setitem(torchvision_voc.DATASET_YEAR_DICT["2007"], "url", "http://127.0.0.1:9/x.tar")
    with pytest.raises(DataError) as caught:
        open_dataset("voc2007")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("the download failed", str(tmp_path / "root"), "VOCtest_06-Nov-2007.tar", "voc2007:PATH"):
        assert part in message


def test_a_folder_that_is_named_is_not_filled(tmp_path: Path) -> None:
    message = refusal(tmp_path / "none")
    assert "download failed" not in message
    assert "trainval.txt can't be read" in message
    assert not (tmp_path / "none").exists()


XML = {
    "encoding": ('<?xml version="1.0" encoding="foo"?><annotation/>', "unknown encoding"),
    "cut short": ("<annotation><object>", "expected the annotation of an image"),
    "another class": ("<annotation><object><name>unicorn</name></object></annotation>", "'unicorn'"),
    "half a box": (
        "<annotation><object><name>dog</name><bndbox><xmin>3</xmin></bndbox></object></annotation>",
        "expected a box, found ['3', '', '', '']",
    ),
    "box from right to left": (None, "expected a box with corners in order, found ['9', '1', '2', '2']"),
}


@pytest.mark.fault("voc2007, coco: annotations and images missing or damaged")
@pytest.mark.parametrize("case", XML)
def test_damaged_annotations_are_named(tmp_path: Path, case: str) -> None:
    text, message = XML[case]
    voc(tmp_path, {**SETS, "test": {"000001": [("dog", (9, 1, 2, 2), False)]}} if text is None else SETS)
    if text is not None:
        (tmp_path / "VOCdevkit/VOC2007/Annotations/000001.xml").write_text(text)
    found = refusal(tmp_path)
    assert "000001.xml" in found
    assert message in found
    assert "unpack" not in found


def test_boxes_from_0_and_beyond_the_image_are_cut_to_it(tmp_path: Path) -> None:
    """Programs that count from 0, or round: the label counts, and what of the box is in the image."""
    boxes = [(0, 0, 10, 20), (-0.5, 3, 40.5, 31), (0, 0, 0, 0)]
    objects: list[VocObject] = [("dog", box, False) for box in boxes]
    train = opened(voc(tmp_path, {**SETS, "trainval": {"000005": objects}}))["train"]
    dog = train.classes.index("dog")
    assert train.boxes is not None
    assert train.boxes[0].tolist() == [[dog, 0, 0, 10, 20], [dog, 0, 2, 40, 30]]
    assert present(train, 0) == {"dog": 1}


@pytest.mark.parametrize("box", ["", "<bndbox></bndbox>", "<polygon><x1>3</x1></polygon>"])
def test_labels_need_no_boxes(tmp_path: Path, box: str) -> None:
    text = f"<annotation><object><name>dog</name>{box}</object></annotation>"
    base = voc(tmp_path, SETS) / "VOCdevkit/VOC2007"
    (base / "Annotations/000005.xml").write_text(text)
    splits = opened(tmp_path)
    assert present(splits["train"], 0) == {"dog": 1}
    assert splits["train"].boxes is None
    assert splits["train"].ignored == ["boxes: 1 images have objects without one"]
    assert splits["test"].boxes is not None


def test_litter_in_a_list_of_images_is_left_out(tmp_path: Path) -> None:
    base = voc(tmp_path, SETS) / "VOCdevkit/VOC2007"
    with (base / "ImageSets/Main/trainval.txt").open("a") as file:
        file.write("._000005\nThumbs.db\n")
    train = opened(tmp_path)["train"]
    assert len(train) == 3
    assert train.ignored[0].endswith("trainval.txt: ._000005, Thumbs.db")


@pytest.mark.fault("voc2007, coco: annotations and images missing or damaged")
def test_missing_files_are_named(tmp_path: Path) -> None:
    base = voc(tmp_path, SETS) / "VOCdevkit/VOC2007"
    (base / "JPEGImages/000001.jpg").rename(tmp_path / "away")
    assert "JPEGImages/000001.jpg can't be read" in refusal(tmp_path)
    (tmp_path / "away").rename(base / "JPEGImages/000001.jpg")
    (base / "Annotations/000001.xml").unlink()
    assert "Annotations/000001.xml: can't be read" in refusal(tmp_path)
    (base / "ImageSets/Main/test.txt").write_text("\n")
    assert "test.txt: expected the name of an image per line" in refusal(tmp_path)
