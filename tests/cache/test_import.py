"""Features from elsewhere: a cache holds them as they were, or one line says why not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cache import FeatureCache, StaleCacheError
from cache.__main__ import main
from cache.importing import write as writing

RNG = np.random.default_rng(0)
VECTORS = RNG.standard_normal((2600, 12)).astype(np.float32)  # three blocks
MAPS = RNG.standard_normal((5, 3, 2, 4)).astype(np.float16)
VIEWS = RNG.standard_normal((5, 2, 3, 2, 4))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def bring(*words: str) -> FeatureCache:
    """The training split that a command line makes."""
    assert main(["import", *words, "--cache", "c"]) == 0
    cache = FeatureCache("c/train.h5")
    cache.verify()
    return cache


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["import", *words, "--cache", "c"]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("python -m cache: ")
    assert "\n" not in said
    assert not Path("c/train.h5").exists()
    return said


def as_npy(features: np.ndarray, labels: np.ndarray) -> list[str]:
    np.save("f.npy", features)
    np.save("l.npy", labels)
    return ["f.npy", "--labels", "l.npy"]


def as_npz(features: np.ndarray, labels: np.ndarray) -> list[str]:
    np.savez_compressed("a.npz", y=labels, X=features)
    return ["a.npz"]


def as_stored_npz(features: np.ndarray, labels: np.ndarray) -> list[str]:
    np.savez("a.npz", other=labels[::-1], labels=labels, deep=features)
    return ["a.npz", "--features-key", "deep"]


def as_pt(features: np.ndarray, labels: np.ndarray) -> list[str]:
    torch.save({"features": torch.from_numpy(features), "labels": torch.from_numpy(labels)}, "a.pt")
    return ["a.pt"]


def as_old_pt(features: np.ndarray, labels: np.ndarray) -> list[str]:
    np.save("l.npy", labels)
    torch.save(torch.from_numpy(features), "a.pth", _use_new_zipfile_serialization=False)
    return ["a.pth", "--labels", "l.npy"]


@pytest.mark.parametrize("save", [as_npy, as_npz, as_stored_npz, as_pt, as_old_pt])
@pytest.mark.parametrize(
    ("features", "shape", "dtype"),
    [
        (VECTORS, (2600, 1, 12, 1, 1), "float32"),
        (MAPS, (5, 1, 3, 2, 4), "float16"),
        (VIEWS, (5, 2, 3, 2, 4), "float32"),
    ],
)
def test_every_kind_of_file_gives_its_features_and_labels(
    save: Callable[..., list[str]], features: np.ndarray, shape: tuple[int, ...], dtype: str
) -> None:
    labels = np.arange(len(features)) % 3
    cache = bring(*save(features, labels))
    assert (cache.shape, cache.dtype) == (shape, dtype)
    found = cache.take(np.arange(len(features)), None)
    assert np.array_equal(found, features.reshape(shape).astype(dtype))
    assert np.array_equal(cache.labels, labels)
    assert cache.classes == ("0", "1", "2")
    assert len(set(cache.paths)) == len(features)
    assert cache.identity.get("views") == ("augment:1" if shape[1] > 1 else None)


def test_names_of_classes_and_rows_are_kept() -> None:
    np.savez("a.npz", features=MAPS, labels=[1, 0, 1, 1, 0], classes=["cat", "dog"], paths=list("vwxyz"))
    cache = bring("a.npz", "--val-rows", "2", "--made-by", "a net")
    assert cache.classes == ("cat", "dog")
    assert cache.paths == list("vwxyz")
    assert cache.identity["val_rows"] == 2
    assert cache.identity["imported"] == {"made_by": "a net"}
    assert cache.notes["provenance"] == "imported: what made the features is somebody's word"


def test_labels_may_be_names_of_classes_in_a_table() -> None:
    np.save("f.npy", MAPS)
    Path("l.csv").write_text("Path,Label\na/1,dog\na/2,cat\nb,dog\nc,cat\nd,cat\n")
    cache = bring("f.npy", "--labels", "l.csv")
    assert cache.classes == ("cat", "dog")
    assert cache.labels.tolist() == [1, 0, 1, 0, 0]
    assert cache.paths == ["a/1", "a/2", "b", "c", "d"]
    cache = bring("f.npy", "--labels", "l.csv", "--classes", "dog", "cat", "eel")  # relabels
    assert cache.classes == ("dog", "cat", "eel")
    assert cache.labels.tolist() == [0, 1, 0, 1, 1]


def test_several_labels_to_a_row_are_a_column_for_each_class() -> None:
    labels = np.array([[1, 0], [0, 0], [-1, 1], [1, 1], [0, 1]])
    np.savez("a.npz", features=MAPS, labels=labels)
    cache = bring("a.npz", "--classes", "sky", "sea")
    assert cache.multi_label
    assert np.array_equal(cache.labels, labels)


def test_bfloat16_tensors_are_stored_as_such() -> None:
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
    torch.save({"feats": features, "targets": [0, 1, 1, 0], "class_names": ["a", "b"]}, "a.pt")
    cache = bring("a.pt")
    assert cache.dtype == "bfloat16"
    assert np.array_equal(cache[:].features.reshape(4, 6), features.float().numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_may_be_stored_in_another_type(dtype: str) -> None:
    np.savez("a.npz", X=VECTORS[:9], y=np.zeros(9, int))
    cache = bring("a.npz", "--dtype", dtype)
    expected = torch.from_numpy(VECTORS[:9]).to(getattr(torch, dtype)).float().numpy()
    assert np.array_equal(cache[:].features.astype(np.float32).reshape(9, 12), expected)


def test_it_is_read_in_pieces_and_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "PIECE_BYTES", 8 * 12 * 100)
    words, asked = as_npz(VECTORS, np.zeros(2600, int)), []
    whole, real = bring(*words).path.read_bytes(), writing._write_block
    Path("c/train.h5").unlink()

    def stopped(source: Any, writer: Any, rows: range) -> None:
        asked.append(rows.start)
        if len(asked) == 2:
            raise KeyboardInterrupt
        real(source, writer, rows)

    monkeypatch.setattr(writing, "_write_block", stopped)
    assert main(["import", *words, "--cache", "c"]) == 130
    assert bring(*words).path.read_bytes() == whole
    assert asked == [0, 1024, 1024, 2048]


def test_the_same_files_give_the_same_cache_and_others_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cache = bring(*as_npz(MAPS, np.arange(5) % 2))
    before = cache.path.stat()
    bring("a.npz")
    assert "there already" in capsys.readouterr().out
    assert cache.path.stat().st_mtime_ns == before.st_mtime_ns
    as_npz(MAPS + 1, np.arange(5) % 2)
    assert main(["import", "a.npz", "--cache", "c"]) == 2
    assert "source.sha256" in capsys.readouterr().err
    assert issubclass(StaleCacheError, Exception)


def test_tensors_that_gradients_went_through_are_numbers_like_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.save({"features": features, "labels": torch.tensor([0, 1, 1, 0])}, "a.pt")
    assert np.array_equal(bring("a.pt")[:].features.reshape(4, 6), features.detach().numpy())
    Path("c/train.h5").unlink()
    torch.save({"features": features.detach().to_sparse(), "labels": [0, 1, 1, 0]}, "a.pt")
    assert "expected a dense tensor, found torch.sparse_coo; save to_dense()" in refusal(capsys, "a.pt")


def test_names_as_python_objects_are_refused_with_how_to_save_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = np.array(["a", "b", "b", "a", "ü"], object)
    np.savez("a.npz", features=MAPS, labels=names)
    assert "save names as text, numpy.asarray(names, dtype=str)" in refusal(capsys, "a.npz")
    np.savez("a.npz", features=MAPS, labels=np.asarray(names, dtype=str))
    assert bring("a.npz").classes == ("a", "b", "ü")


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"features": MAPS, "labels": [0, 1]}, "expected a label for each of 5 rows of features, found 2"),
        ({"features": MAPS, "labels": [0.5] * 5}, "labels: expected whole numbers or names"),
        ({"features": MAPS, "labels": [-1] * 5}, "labels: expected 0 to 0, found -1 in row 0"),
        ({"features": MAPS[:, 0], "labels": [0] * 5}, "features: expected the shape (N, D), (N, C, H, W)"),
        ({"features": MAPS[:0], "labels": []}, "expected at least one row"),
        ({"features": MAPS.astype(int), "labels": [0] * 5}, "expected floating-point numbers, found int64"),
        ({"features": np.asfortranarray(MAPS), "labels": [0] * 5}, "save numpy.ascontiguousarray of it"),
        ({"images": MAPS, "labels": [0] * 5}, "found images, labels; name it by --features-key"),
        ({"features": MAPS, "kinds": [0] * 5}, "has no labels; name a .npy or CSV file by --labels"),
        (
            {"features": np.where(MAPS[3, 1, 1, 2] == MAPS, np.nan, MAPS), "labels": [0] * 5},
            "row 3 (train/3): ",
        ),
        ({"features": MAPS, "labels": [0] * 5, "paths": ["a"] * 5}, "paths: 'a' stands there twice"),
        (
            {"features": MAPS.astype(object), "labels": [0] * 5},
            "Object arrays cannot be loaded|Python objects",
        ),
    ],
)
def test_arrays_that_make_no_cache_are_refused(
    arrays: dict[str, Any], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("a.npz", allow_pickle=True, **{name: np.asanyarray(array) for name, array in arrays.items()})
    said = refusal(capsys, "a.npz")
    assert "a.npz" in said or "cache header" in said
    assert any(part in said for part in problem.split("|"))


class Bomb:
    def __reduce__(self) -> Any:
        return Path("exploded").touch, ()


def test_pickled_objects_are_refused_and_not_run(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("a.npy", np.array([Bomb()]), allow_pickle=True)
    torch.save({"features": torch.ones(2, 3), "labels": Bomb()}, "a.pt")
    np.savez("a.npz", features=np.array([Bomb()]), labels=[0])
    for name in ("a.npy", "a.pt", "a.npz"):
        assert f"python -m cache: {name}" in refusal(capsys, name)
    assert not Path("exploded").exists()


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.pt", "gone.npz", "gone.pt", "a.txt", "gone"])
def test_files_of_no_known_kind_are_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "gone" not in name:
        Path(name).write_bytes(b"hello")
    assert f"{name}: expected" in refusal(capsys, name)


def test_a_cut_off_archive_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    as_npz(VECTORS, np.zeros(2600, int))
    data = bytearray(Path("a.npz").read_bytes())
    data[len(data) // 2] ^= 255
    Path("a.npz").write_bytes(data)
    assert "a.npz, X: damaged" in refusal(capsys, "a.npz")
