"""load_run(...).predict takes what people have in Python, and gives the same for the same pixels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.predicting import COLOURS, cache_of, head, one_class_each, photo, several_labels

from pipeline import load_run
from pipeline.errors import ConfigError, DataError
from pipeline.prediction.predictor import Predictor
from pipeline.runs import folder as runs


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    made = tmp_path_factory.mktemp("python")
    photos = one_class_each(made / "photos")
    run = head(cache_of(f"folder:{photos}", made / "cache"), made / "run", head="linear", epochs=20)
    return load_run(run, device="cpu")


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(5)
    return [photo(rng, name) for name in (*COLOURS, "ant")]


def test_every_kind_of_images_gives_the_same(
    model: Predictor, pictures: list[Image.Image], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(len(pictures))]
    for picture, path in zip(pictures, paths, strict=True):
        picture.save(path)
    array = np.stack([np.asarray(picture) for picture in pictures])
    expected = model.predict(array)
    assert expected.labels == ["ant", "bee", "cow", "ant"]
    tensor = torch.from_numpy(array).permute(0, 3, 1, 2)
    mixed = [pictures[0], array[1], tensor[2], pictures[3]]
    files = paths, list(map(str, paths)), tmp_path, f"{tmp_path}/*.png"
    for images in (*files, pictures, tuple(pictures), list(array), tensor, list(tensor), mixed):
        np.testing.assert_array_equal(model.predict(images).logits, expected.logits)
    twice = model.predict([paths[1], paths[0], paths[1]])
    np.testing.assert_allclose(twice.logits, expected.logits[[1, 0, 1]], rtol=1e-5)
    for one in (pictures[0], array[0], tensor[0]):
        np.testing.assert_allclose(model.predict(one).logits, expected.logits[:1], rtol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
@pytest.mark.parametrize("turn", [1, 6])
def test_a_picture_in_memory_is_seen_as_its_file_is(
    model: Predictor, pictures: list[Image.Image], tmp_path: Path, mode: str, turn: int
) -> None:
    path, exif = tmp_path / f"a.{'jpg' if mode == 'CMYK' else 'png'}", Image.Exif()
    exif[274] = turn
    pictures[0].convert(mode).save(path, exif=exif)
    with Image.open(path) as picture:
        picture.load()
        found = model.predict([picture])
    np.testing.assert_array_equal(found.logits, model.predict([path]).logits)


def test_probabilities_are_the_softmax_and_top_k_is_sorted(
    model: Predictor, pictures: list[Image.Image]
) -> None:
    found = model.predict(pictures)
    expected = torch.from_numpy(found.logits).double().softmax(1).numpy()
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-6)
    for best, row in zip(found.top_k(2), expected, strict=True):
        assert [name for name, _ in best] == [model.classes[k] for k in np.argsort(-row)[:2]]
        assert [p for _, p in best] == pytest.approx(sorted(row, reverse=True)[:2])
    assert len(found) == 4
    assert found.present.tolist() == [[name == label for name in model.classes] for label in found.labels]


def test_several_labels_come_as_tuples(tmp_path: Path) -> None:
    labelled = several_labels(tmp_path / "labelled")
    cache = cache_of(f"csv:{labelled / 'labels.csv'}", tmp_path / "cache", label_separator="|")
    model = load_run(head(cache, tmp_path / "run", head="gap", epochs=40, lr=(0.3,)), device="cpu")
    assert model.multi_label
    assert model.thresholds is not None
    found = model.predict(sorted(labelled.glob("*.png")))
    for label, row in zip(found.labels, found.probabilities >= model.thresholds, strict=True):
        assert label == tuple(np.array(model.classes)[row])
    assert {0, 1, 2, 3} <= {len(label) for label in found.labels}


def test_maps_are_scored_without_the_trunk(model: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    again = load_run(model.folder, device="cpu")
    maps = torch.randn(3, 1, 256, 5, 5)
    expected = runs.load_head(model.folder).logits(maps)
    assert torch.equal(again.logits(maps), expected)
    assert "scorer" not in vars(again)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (lambda _: np.zeros((2, 8, 8, 3)), r"expected \(B, H, W, 3\) uint8, found \(2, 8, 8, 3\) float64"),
        (lambda _: np.zeros((8, 8), np.uint8), r"found \(8, 8\) uint8"),
        (lambda _: torch.zeros(8, 8, 3), r"expected \(3, H, W\) uint8, found \(8, 8, 3\) float32"),
        (lambda _: [np.zeros((3, 8, 8), np.uint8)], r"expected \(H, W, 3\) uint8, found \(3, 8, 8\) uint8$"),
        (lambda _: [3], "expected paths alone or images alone, found 3"),
        (lambda path: [str(path / "none.png")], r"none\.png can't be read: No such file"),
        (lambda path: [str(path / "empty.png")], r"empty\.png: expected an image, found an empty file"),
        (lambda path: str(path / "none"), "expected a photo, a folder or a pattern, found no such"),
        (
            lambda _: [Image.new("F", (8, 8))],
            "image 0: expected samples of 8 bits, found mode F; give",
        ),
    ],
)
def test_what_is_no_image_is_refused_by_name(
    model: Predictor, tmp_path: Path, images: Callable[[Path], Any], message: str
) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=message):
        model.predict(images(tmp_path))


def test_no_images_give_no_rows(model: Predictor) -> None:
    found = model.predict([])
    assert found.logits.shape == found.probabilities.shape == (0, 3)
    assert found.labels == found.top_k() == []


def test_a_device_that_is_not_there_is_refused(model: Predictor) -> None:
    with pytest.raises(ConfigError, match="--device: mps is not there"):
        load_run(model.folder, device="mps")
