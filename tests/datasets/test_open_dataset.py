"""What every dataset keeps: tried on each of the registry that needs no download."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from support import published
from support.hub import labelled

from pipeline.datasets import DATASETS
from pipeline.datasets.base import ImageSplit, open_dataset
from pipeline.errors import ConfigError


@pytest.fixture(scope="module")
def scenes() -> dict[str, ImageSplit]:
    """The first of them, made once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.datasets.scenes.COUNTS", {"train": 60, "test": 30})
        return open_dataset("scenes")


@pytest.fixture(params=sorted(set(DATASETS) - {"cifar10"}))
def splits(request: pytest.FixtureRequest, photos: Path) -> dict[str, ImageSplit]:
    if request.param == "csv":
        lines = (f"{p.relative_to(photos)},{p.parent.name}" for p in photos.rglob("*.png"))
        (photos / "table.csv").write_text("\n".join(("image,labels", *lines)), encoding="utf-8")
        return open_dataset(f"csv:{photos / 'table.csv'}", label_separator="none")
    if request.param == "hf":
        labelled(30).save_to_disk(photos / "saved")
        return open_dataset(f"hf:{photos / 'saved'}")
    if request.param == "scenes":
        return request.getfixturevalue("scenes")
    if request.param in ("voc2007", "coco"):
        return open_dataset(f"{request.param}:{published.whole(photos, request.param)}")
    return open_dataset(f"folder:{photos}" if request.param == "folder" else request.param)


def test_splits_are_consistent(splits: dict[str, ImageSplit]) -> None:
    assert list(splits) == ["train", "test"]
    assert splits["train"].classes == splits["test"].classes
    assert not set(splits["train"].paths) & set(splits["test"].paths)
    for name, split in splits.items():
        assert split.split == name
        assert split.multi_label == DATASETS[split.dataset].multi_label
        assert len(split) == len(split.paths) == len(set(split.paths))
        assert split.sizes.shape == (len(split),)
        assert split.sizes.dtype == np.int64
        check_labels(split)
        assert all(not p.startswith("/") and "\\" not in p for p in split.paths)


def check_labels(split: ImageSplit) -> None:
    """Every class occurs, in either form; boxes are of classes that do."""
    if split.multi_label:
        assert split.labels.shape == (len(split), len(split.classes))
        assert split.labels.dtype == np.int8
        assert set(np.unique(split.labels).tolist()) <= {-1, 0, 1}
        assert (split.labels == 1).any(axis=0).all()
    else:
        assert split.labels.shape == (len(split),)
        assert split.labels.dtype == np.int64
        assert set(split.labels.tolist()) == set(range(len(split.classes)))
    if split.boxes is not None:
        assert len(split.boxes) == len(split)
        for row, boxes in enumerate(split.boxes):
            assert boxes.dtype == np.float32
            assert boxes.shape == (len(boxes), 5)
            assert (split.labels[row, boxes[:, 0].astype(int)] == 1).all()
            height, width, _ = split.images.read(row).pixels.shape
            assert (boxes[:, 1:] >= 0).all()
            assert (boxes[:, [3, 4]] <= [width, height]).all()
            assert (boxes[:, [1, 2]] < boxes[:, [3, 4]]).all()


def test_reading_is_repeatable_and_survives_pickling(splits: dict[str, ImageSplit]) -> None:
    split = splits["test"]
    copy = pickle.loads(pickle.dumps(split))
    for row in (0, len(split) - 1):
        image, again = split.images.read(row), copy.images.read(row)
        assert image.pixels.dtype == np.uint8
        assert image.pixels.ndim == 3
        assert image.pixels.shape[2] == 3
        np.testing.assert_array_equal(image.pixels, again.pixels)
        assert len(image.digest) == 16
        assert image.digest == again.digest == split.images.digest(row)


def test_rows_taken_and_left_out_keep_their_order(splits: dict[str, ImageSplit]) -> None:
    split = splits["train"]
    part = split.take([5, 2, 7])
    assert part.paths == (split.paths[5], split.paths[2], split.paths[7])
    assert part.labels.tolist() == split.labels[[5, 2, 7]].tolist()
    assert part.sizes.tolist() == split.sizes[[5, 2, 7]].tolist()
    assert part.images.read(1).digest == split.images.read(2).digest
    rest = split.without([0, 3])
    assert rest.paths == split.paths[1:3] + split.paths[4:]
    assert len(rest) == len(split) - 2 == len(rest.labels)
    assert rest.images.read(2).digest == split.images.read(4).digest
    assert len(split.take(range(3, 9))) == 6
    if split.boxes is not None:
        assert part.boxes is not None
        assert rest.boxes is not None
        for found, expected in ((part.boxes, [5, 2, 7]), (rest.boxes[:4], [1, 2, 4, 5])):
            assert [b.tolist() for b in found] == [split.boxes[row].tolist() for row in expected]


@pytest.mark.parametrize("spec", ["mnist", "", ":x", "/some/path"])
def test_an_unknown_name_is_refused_with_the_choices(spec: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_dataset(spec)
    expected = "digits, cifar10, scenes, folder:PATH, csv:PATH, voc2007[:PATH], coco:PATH, hf:PATH"
    assert str(caught.value) == f"--dataset: expected one of {expected}, found {spec!r}"


@pytest.mark.parametrize(
    ("spec", "nearest"),
    [("digit", "digits"), ("Digits", "digits"), ("fodler:x", "folder"), ("voc", "voc2007")],
)
def test_a_mistyped_name_is_refused_with_the_nearest(spec: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=rf"found '{spec}'; did you mean {nearest}\?$"):
        open_dataset(spec)


@pytest.mark.parametrize("spec", ["digits", "folder:x", "coco:x", "voc2007"])
def test_a_separator_of_labels_is_refused_where_there_is_none(spec: str) -> None:
    with pytest.raises(ConfigError, match=r"--label-separator: expected a text, for csv:PATH alone"):
        open_dataset(spec, label_separator=",")
    with pytest.raises(ConfigError, match=r"--label-separator: .* found '' for csv"):
        open_dataset("csv:x", label_separator="")


@pytest.mark.parametrize("name", DATASETS)
def test_a_path_is_given_where_it_has_to_be_and_nowhere_else(name: str) -> None:
    if DATASETS[name].path == "none":
        with pytest.raises(ConfigError, match=f"--dataset: {name} takes no path, found {name}:x"):
            open_dataset(f"{name}:x")
    if DATASETS[name].path == "required":
        for spec in (name, f"{name}:"):
            with pytest.raises(ConfigError, match=f"--dataset: {name} needs a path: {name}:PATH"):
                open_dataset(spec)
