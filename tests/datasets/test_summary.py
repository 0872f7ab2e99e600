"""What is printed of a split: counts of each class, in lines that stay short, and what was left out."""

import dataclasses

import numpy as np
import pytest

from cache import Paths
from pipeline.datasets.base import ArrayReader, ImageSplit
from pipeline.datasets.summary import lines


def split(labels: object, classes: list[str], **facts: object) -> ImageSplit:
    array = np.array(labels)
    made = ImageSplit(
        dataset="toy",
        split="train",
        classes=tuple(classes),
        paths=Paths(str(i) for i in range(len(array))),
        sizes=np.ones(len(array), np.int64),
        labels=array.astype(np.int8) if array.ndim > 1 else array,
        images=ArrayReader(np.zeros((len(array), 1, 1, 3), np.uint8)),
    )
    return dataclasses.replace(made, **facts)  # type: ignore[arg-type]


def test_every_class_of_few_is_counted_in_the_order_of_the_classes() -> None:
    assert lines(split([2, 0, 2, 2], ["dog", "owl", "sea  cow"])) == [
        "train: 4 images of 3 classes: dog 1, owl 0, 'sea  cow' 3"
    ]


def test_images_without_a_label_and_labels_not_counted_are_counted() -> None:
    found = lines(split([[1, 0], [0, 0], [-1, 0], [1, -1]], ["dog", "cat"]))
    assert found == ["train: 4 images of 2 classes: dog 2, cat 0; 2 without a label; 2 labels not counted"]


@pytest.mark.parametrize("several", [False, True])
def test_very_many_classes_are_a_short_line(several: bool) -> None:
    counts = np.arange(1000)
    counts[:7] = 0
    names = [f"class-{i:03}" for i in range(1000)]
    labels = np.repeat(np.arange(1000), counts)
    if several:
        labels = np.eye(1000, dtype=np.int8)[labels[::100]]
        counts = labels.sum(0)
    (said,) = lines(split(labels, names))
    assert len(said) < 400
    empty = int((counts == 0).sum())
    assert f"; none of class-000, class-001, class-002, class-003, class-004 and {empty - 5:,} more" in said
    smallest = counts[counts > 0].min()
    assert f"classes: fewest {names[int(np.flatnonzero(counts == smallest)[0])]} {smallest}, " in said
    assert f"; most {names[int(np.flatnonzero(counts == counts.max())[-1])]} {counts.max()}, " in said


def test_own_validation_images_are_counted_by_themselves() -> None:
    found = lines(split([0, 1, 1, 0, 0], ["dog", "cat"], val_rows=2, ignored=["x"], remarks=["y"]))
    assert found == [
        "not used: x",
        "y",
        "train: 3 images of 2 classes: dog 1, cat 2",
        "validation images of its own: 2 images of 2 classes: dog 2, cat 0",
    ]


def test_names_that_a_person_takes_for_one_are_said_once() -> None:
    names = ["Dog", "dog", "caf\u00e9", "cafe\u0301", "sea cow", "seacow", "owl"]
    said, _ = lines(split(range(7), names))
    assert "'Dog' and 'dog', 'caf\u00e9' and 'cafe\u0301', 'sea cow' and 'seacow'; if one is meant" in said
    test = dataclasses.replace(split(range(7), names), split="test")
    assert len(lines(test)) == 1
