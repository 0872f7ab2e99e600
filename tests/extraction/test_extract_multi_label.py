"""Stage one on multi-label images: every image keeps its own labels, whatever is left out or changed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cache import FeatureCache
from pipeline.config import ExtractConfig, PretrainConfig
from pipeline.datasets.base import open_dataset
from pipeline.errors import ConfigError, StaleCacheError
from pipeline.extraction.stage import extract
from pipeline.extraction.work import trunk_of
from pipeline.pretraining.stage import pretrain
from pipeline.trunks.base import normalise

NAMES = ["dog", "cat", "bird"]


def labels_of(row: int) -> list[str]:
    """Row 0 none, row 7 all."""
    return [name for bit, name in enumerate(NAMES) if row >> bit & 1]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Eight images of every combination of labels to train on, two to test on, of different shapes."""
    rng = np.random.default_rng(0)
    lines = ["image,labels,split"]
    for row in range(10):
        shape = (20 + 7 * (row % 3), 50 - 9 * (row % 4), 3)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{row}.png")
        lines.append(f"{row}.png,{'|'.join(labels_of(row % 8))},{'train' if row < 8 else 'test'}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "t.csv"


def settings(table: Path, weights: Path, **other: object) -> ExtractConfig:
    fields = {"decoders": 1, "dtype": "float32", "resize": "squash", **other}
    cache = str(table.parent / "cache")
    return ExtractConfig(dataset=f"csv:{table}", weights=str(weights), cache=cache, **fields)  # type: ignore[arg-type]


def named(cache: FeatureCache) -> dict[str, set[str]]:
    """Path → classes."""
    return {
        path: {cache.classes[k] for k in np.flatnonzero(cache.labels[row] == 1)}
        for row, path in enumerate(cache.paths)
    }


def test_each_row_has_its_image_s_labels_and_the_map_of_all_of_it(table: Path, weights: Path) -> None:
    config = settings(table, weights)
    extract(config)
    cache = FeatureCache(table.parent / "cache/train.h5")
    assert cache.labels.dtype == np.int8
    assert cache.classes == ("bird", "cat", "dog")
    assert named(cache) == {f"{row}.png": set(labels_of(row)) for row in range(8)}
    trunk = trunk_of(config)
    for row, path in enumerate(cache.paths):
        squashed = Image.open(table.parent / path).resize((32, 32), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.asarray(squashed).transpose(2, 0, 1).copy())[None]
        with torch.inference_mode():
            expected = trunk.module(normalise(pixels, trunk.transform))[0]
        found = torch.from_numpy(cache.features[row, 0].copy())
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_labels_stay_with_their_images_when_one_is_left_out(table: Path, weights: Path) -> None:
    (table.parent / "3.png").write_bytes(b"not an image")
    extract(settings(table, weights, on_bad_image="skip"))
    cache = FeatureCache(table.parent / "cache/train.h5")
    assert named(cache) == {f"{row}.png": set(labels_of(row)) for row in range(8) if row != 3}
    assert [skipped["path"] for skipped in cache.notes["skipped"]] == ["3.png"]


def test_new_labels_and_classes_keep_the_features(
    table: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract(settings(table, weights))
    before = FeatureCache(table.parent / "cache/train.h5").features.copy()
    table.write_text(table.read_text("utf-8").replace("0.png,,", "0.png,cow|bird,"), "utf-8")
    capsys.readouterr()
    extract(settings(table, weights))
    assert capsys.readouterr().out.count("labels updated, features kept") == 2
    cache = FeatureCache(table.parent / "cache/train.h5")
    assert cache.classes == ("bird", "cat", "cow", "dog")
    assert named(cache)["0.png"] == {"bird", "cow"}
    assert named(cache)["7.png"] == set(NAMES)
    np.testing.assert_array_equal(cache.features, before)


def test_a_trunk_is_not_pretrained_on_several_classes_per_image(table: Path) -> None:
    with pytest.raises(ConfigError, match="--dataset: expected images of one class each"):
        pretrain(PretrainConfig(dataset=f"csv:{table}", out=str(table.parent / "run"), decoders=1))


def test_the_way_of_resizing_is_part_of_the_cache_s_identity(table: Path, weights: Path) -> None:
    extract(settings(table, weights))
    with pytest.raises(StaleCacheError, match="transform"):
        extract(settings(table, weights, resize=None))


def test_the_dataset_is_found_again_by_what_the_cache_notes(table: Path, weights: Path) -> None:
    extract(settings(table, weights))
    cache = FeatureCache(table.parent / "cache/test.h5")
    assert open_dataset(cache.notes["dataset"])["test"].paths == tuple(cache.paths)
