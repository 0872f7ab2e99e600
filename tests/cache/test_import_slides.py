"""A folder of slides, an HDF5 file each: a patch is a row with its slide's label, in its slide's split."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cache import FeatureCache
from cache.__main__ import main

RNG = np.random.default_rng(0)
COUNTS = {"s.1": 700, "s.2": 1, "deep/s.3": 900, "s4": 5}
SLIDES = {name: RNG.standard_normal((count, 6)).astype(np.float16) for name, count in COUNTS.items()}
COORDS = {name: np.stack([np.arange(n) * 256, np.arange(n) // 7], 1) for name, n in COUNTS.items()}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, features in SLIDES.items():
        put(name, features=features, coords=COORDS[name])


def put(name: str, **arrays: Any) -> None:
    path = Path("slides", f"{name}.h5")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file.create_dataset(key, data=array, chunks=True, maxshape=(None, *array.shape[1:]))


def table(text: str) -> list[str]:
    Path("slides.csv").write_text(text)
    return ["import", "slides", "--labels", "slides.csv", "--cache", "c"]


def test_patches_of_all_slides_are_rows_by_split(capsys: pytest.CaptureFixture[str]) -> None:
    words = table(
        "slide_id,label,split\ns.1.svs,tumor,val\ndeep/s.3,normal,train\ns.2,tumor,train\ns4,x,test\n"
    )
    assert main(words) == 0
    train, test = (FeatureCache(f"c/{split}.h5") for split in ("train", "test"))
    assert train.classes == test.classes == ("normal", "tumor", "x")
    expected = np.concatenate([SLIDES[name] for name in ("deep/s.3", "s.2", "s.1")])
    assert np.array_equal(train[:].features.reshape(-1, 6), expected)
    assert train.shape == (1601, 1, 6, 1, 1)
    assert train.labels.tolist() == [0] * 900 + [1] * 701
    assert train.identity["val_rows"] == 700
    assert train.paths[1] == "deep/s.3#256,0"
    assert train.paths[900] == "s.2#0,0"
    assert np.array_equal(test[:].features.reshape(-1, 6), SLIDES["s4"])
    assert "c/test.h5: 5 rows" in capsys.readouterr().out


def test_without_splits_all_are_of_the_one_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*table("slide,label\ns4,a\ns.2,b\n"), "--split", "test"]) == 0
    assert FeatureCache("c/test.h5").labels.tolist() == [0] * 5 + [1]
    assert not Path("c/train.h5").exists()
    said = capsys.readouterr().out.splitlines()[0]
    assert said == "not used: 2 slides, first deep/s.3, which slides.csv doesn't name"


def test_features_with_a_leading_axis_and_without_coords_are_read() -> None:
    put("s4", features=SLIDES["s4"][None])
    put("s.2", features=np.zeros((0, 6), np.float16))
    assert main(table("slide,label\ns4,a\ns.2,b\ns.1,b\n")) == 0
    cache = FeatureCache("c/train.h5")
    assert np.array_equal(cache[:5].features.reshape(-1, 6), SLIDES["s4"])
    assert cache.paths[:2] == ["s4#0", "s4#1"]
    assert len(cache) == 705


def test_repeated_coordinates_give_way_to_numbers() -> None:
    put("s4", features=SLIDES["s4"], coords=np.zeros((5, 2), int))
    assert main(table("slide,label\ns4,a\n")) == 0
    assert FeatureCache("c/train.h5").paths == [f"s4#{i}" for i in range(5)]


@pytest.mark.parametrize(
    ("arrays", "text", "problem"),
    [
        ({}, "slide,label\nnone,a\n", "expected slides of slides, each once, found 'none'"),
        ({}, "slide,label\ns4,a\ns4,b\n", "found 's4', which has no file there"),
        ({}, "slide,kind\ns4,a\n", "expected a column label or labels or class or target, found slide, kind"),
        ({}, "slide,label,split\ns4,a,7\n", "column split: expected train, val or test, found '7'"),
        ({}, "slide,label\n", "expected lines below the names of the columns"),
        ({}, "slide,label\ns4\n", "expected a CSV file in UTF-8"),
        (
            {"features": np.zeros((2, 7), np.float16)},
            "",
            "expected features like those of slides/s.1.h5, float16",
        ),
        ({"features": np.zeros((2, 6), np.float32)}, "", "found float32 of (6, 1, 1)"),
        ({"feat": np.zeros((2, 6), np.float16)}, "", "found feat; name it by --features-key"),
        ({"features": np.zeros((2, 6), int)}, "", "expected floating-point numbers, found int64"),
        (
            {"features": np.zeros((2, 6), np.float16), "coords": np.zeros((3, 2))},
            "",
            "coords for each of 2 patches",
        ),
        ({"features": np.full((2, 6), np.inf, np.float16)}, "", "row 701 (z#1)|row 700 (z#0)"),
    ],
)
def test_slides_that_don_t_fit_are_refused(
    arrays: dict[str, Any], text: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    put("z", **arrays)
    assert main(table(text or "slide,label\ns.1,a\nz,b\n")) == 2
    said = capsys.readouterr().err.strip()
    assert "\n" not in said
    assert any(part in said for part in problem.split("|"))


def test_files_and_flags_that_have_no_place_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    words = table("slide,label,split\ns4,a,train\ns.2,a,test\n")
    for more, problem in (
        (["--val-rows", "3"], "--val-rows: has no place with slides"),
        (["--split", "test"], "--split: slides.csv has splits of its own"),
    ):
        assert main([*words, *more]) == 2
        assert problem in capsys.readouterr().err
    assert main(["import", "slides", "--cache", "c"]) == 2
    assert "slides: expected --labels, a CSV file" in capsys.readouterr().err
    Path("slides/bad.h5").write_bytes(b"hello")
    assert main(table("slide,label\nbad,a\n")) == 2
    assert "slides/bad.h5: expected an HDF5 file with features" in capsys.readouterr().err
    Path("empty").mkdir()
    assert main(["import", "empty", "--labels", "slides.csv", "--cache", "c"]) == 2
    assert "empty: expected features.npy, or a .h5 file for each slide" in capsys.readouterr().err
