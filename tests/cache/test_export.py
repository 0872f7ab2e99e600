"""Other files of a cache: read by the programs they are for, they hold the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import load_from_disk
from support.samples import extract, flip, header

from cache import FeatureCache
from cache.__main__ import main

SHAPES = [(1, (4, 1, 1)), (1, (2, 3, 2)), (3, (2, 2, 2))]


def made(folder: Path, **changes: Any) -> FeatureCache:
    return FeatureCache(extract(folder / "train.h5", header(1100, **changes)))


@pytest.mark.parametrize("dtype", ["float16", "float32", "bfloat16"])
@pytest.mark.parametrize(("views", "map_shape"), SHAPES)
def test_numpy_reads_the_arrays_and_import_takes_them_back(
    tmp_path: Path, views: int, map_shape: tuple[int, int, int], dtype: str
) -> None:
    cache = made(tmp_path, views=views, map_shape=map_shape, dtype=dtype)
    out = tmp_path / "out"
    assert main(["export", str(cache.path), "--out", str(out)]) == 0
    features = np.load(out / "features.npy")
    assert features.dtype == ("float32" if dtype == "bfloat16" else dtype)
    assert features.shape == (
        (1100, 4) if map_shape == (4, 1, 1) else (1100, *(views,) * (views > 1), *map_shape)
    )
    first = features[:, 0] if views > 1 else features
    assert np.array_equal(first.reshape(1100, *map_shape), cache[:].features)
    assert np.array_equal(np.load(out / "labels.npy"), cache.labels)
    assert (out / "paths.txt").read_text("utf-8").splitlines() == [*cache.paths]
    assert json.loads((out / "about.json").read_text())["identity"] == cache.identity
    assert main(["import", str(out), "--cache", str(tmp_path / "c"), "--dtype", dtype]) == 0
    again = FeatureCache(tmp_path / "c" / "train.h5")
    rows = np.arange(1100)
    assert np.array_equal(again.take(rows, None), cache.take(rows, None))
    assert np.array_equal(again.labels, cache.labels)
    assert (again.paths, again.classes, again.shape) == (cache.paths, cache.classes, cache.shape)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("map_shape", [(4, 1, 1), (2, 3, 2)])
def test_the_datasets_library_reads_the_rows(
    tmp_path: Path, map_shape: tuple[int, int, int], dtype: str
) -> None:
    cache = made(tmp_path, map_shape=map_shape, dtype=dtype)
    out = tmp_path / "out"
    assert main(["export", str(cache.path), "--out", str(out), "--format", "datasets"]) == 0
    found: Any = load_from_disk(str(out))
    assert found.features["label"].names == list(cache.classes)
    arrays = found.with_format("numpy")[:]
    expected = cache[:].features.astype(np.float32)
    assert np.array_equal(arrays["features"].reshape(expected.shape), expected)
    assert np.array_equal(arrays["label"], cache.labels)
    assert found[:]["path"] == [*cache.paths]
    assert {entry.name for entry in tmp_path.iterdir()} == {"train.h5", "out"}


def test_several_labels_become_lists_of_classes(tmp_path: Path) -> None:
    labels = np.zeros((1100, 3), np.int8)
    labels[1], labels[2] = [1, 0, 1], [-1, 1, 0]
    cache = made(tmp_path, labels=labels)
    assert main(["export", str(cache.path), "--out", str(tmp_path / "o"), "--format", "datasets"]) == 0
    found: Any = load_from_disk(str(tmp_path / "o"))
    assert found[:3]["labels"] == [[], [0, 2], [1]]
    assert found[:3]["not_counted"] == [[], [], [0]]


def test_a_damaged_cache_or_a_folder_in_the_way_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = made(tmp_path)
    assert main(["export", str(cache.path), "--out", str(tmp_path)]) == 2
    assert "is there already; delete it or name another folder" in capsys.readouterr().err
    flip(cache.path, 8 * cache.path.stat().st_size - 1)
    for name in ("npy", "datasets"):
        assert main(["export", str(cache.path), "--out", str(tmp_path / "o"), "--format", name]) == 2
        assert "doesn't match its digest" in capsys.readouterr().err
        assert not (tmp_path / "o").exists()


def test_names_with_line_breaks_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = made(tmp_path, classes=["a\nb", "c", "d"])
    assert main(["export", str(cache.path), "--out", str(tmp_path / "o")]) == 2
    assert "has a line break, which a text file can't hold" in capsys.readouterr().err
