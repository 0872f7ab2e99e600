"""Evaluation end to end: synthetic caches, heads trained on them, scores against h5py and scikit-learn."""

import inspect
import json
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss

from cache import CacheError, CacheHeader, CacheWriter, FeatureCache, StaleCacheError
from pipeline.bootstrap import paired_interval
from pipeline.compare import compare
from pipeline.config import EvaluateConfig, TrainConfig
from pipeline.errors import RunError
from pipeline.evaluate import STAGES, evaluate, score_run
from pipeline.predictions import Predictions
from pipeline.registry import resolve
from pipeline.runs import load_head
from pipeline.train import train

CLASSES = ("ant", "bee", "cow", "dog", "eel", "fox")
IDENTITY = {
    "trunk": {"name": "toy", "version": 1, "weights": "ab" * 32},
    "transform": {"image_px": 32},
    "views": "plain",
    "precision": "float32",
}


def write_split(folder: Path, split: str, images: int, *, dtype: str = "float16", **changed: Any) -> Path:
    """FOLDER/SPLIT.h5: six classes in random order, each a pattern under noise on maps of 3×5×5."""
    identity = {**IDENTITY, "split": split, "image_sizes": split, **changed}
    views = 2 if identity["views"] == "mirror" else 1
    rng = np.random.default_rng([images, len(split)])
    labels = rng.integers(len(CLASSES), size=images)
    patterns = np.random.default_rng(0).normal(size=(len(CLASSES), 1, 3, 5, 5))
    maps = patterns[labels] + 1.5 * rng.normal(size=(images, views, 3, 5, 5))
    paths = [f"{split}/{CLASSES[label]}/{i}.png" for i, label in enumerate(labels)]
    header = CacheHeader((images, views, 3, 5, 5), dtype, labels, paths, CLASSES, identity)
    with CacheWriter(folder / f"{split}.h5", header) as writer:
        for rows in writer.missing:
            digests = np.ones((len(rows), 16), np.uint8)
            writer.write(rows, maps[rows.start : rows.stop].astype(np.float32), digests)
        writer.publish()
    return folder


def write_cache(folder: Path, **changed: Any) -> Path:
    write_split(folder, "train", 240, **changed)
    return write_split(folder, "test", 150, **changed)


def head(cache: Path, out: Path, **settings: Any) -> Path:
    small = {"hidden": (8,), "epochs": 4, "batch": 32, "device": "cpu", "val_fraction": 0.2}
    return train(TrainConfig(cache=str(cache), out=str(out), **{**small, **settings}))


def settings(*runs: Path, **changed: Any) -> EvaluateConfig:
    return EvaluateConfig(run=tuple(map(str, runs)), **{"device": "cpu", "resamples": 500, **changed})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache and two heads on it: ten, and linear."""
    folder = tmp_path_factory.mktemp("made")
    cache = write_cache(folder / "cache")
    head(cache, folder / "ten")
    head(cache, folder / "linear", head="linear")
    return folder


def reference(
    run: Path, test: Path, classes: tuple[str, ...] = CLASSES
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(logits, labels, paths) with the maps as h5py reads them, all at once."""
    with h5py.File(test) as file:
        features = file["features"]
        assert isinstance(features, h5py.Dataset)
        maps = torch.from_numpy(features[:].astype(np.float32))
    cache = FeatureCache(test)
    names = [cache.classes[label] for label in cache.labels]
    rows = [i for i, name in enumerate(names) if name in classes]
    logits = load_head(run).logits(maps[rows]).numpy()
    return logits, np.array([classes.index(names[i]) for i in rows]), [cache.paths[i] for i in rows]


def test_metrics_equal_scikit_learns_on_maps_read_by_h5py(made: Path) -> None:
    path = evaluate(settings(made / "ten", batch=32))
    found = json.loads(path.read_text())
    logits, labels, _ = reference(made / "ten", made / "cache/test.h5")
    assert path == made / "ten/eval/metrics.json"
    assert found["images"] == 150
    assert found["top1"] == pytest.approx(100 * accuracy_score(labels, logits.argmax(1)))
    assert 25 < found["top1"] < 100  # learned, and not so easy that nothing could go wrong
    probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
    assert found["nll"] == pytest.approx(log_loss(labels, probabilities, labels=range(6)), rel=1e-4)
    assert found["classes"] == list(CLASSES) == list(found["per_class"])
    assert set(found["units"]) == set(found) - {"classes", "units"}
    assert (made / "ten/eval/confusion.png").read_bytes().startswith(b"\x89PNG")


def test_predictions_are_kept_and_read_back_without_pickles(made: Path) -> None:
    evaluate(settings(made / "ten"))
    logits, labels, paths = reference(made / "ten", made / "cache/test.h5")
    with np.load(made / "ten/eval/predictions.npz", allow_pickle=False) as kept:
        assert sorted(kept) == ["classes", "labels", "logits", "paths"]
        assert kept["logits"].dtype == np.float32
        np.testing.assert_allclose(kept["logits"], logits, rtol=1e-4, atol=1e-5)
        assert kept["labels"].tolist() == labels.tolist()
        assert kept["paths"].tolist() == paths
        assert kept["classes"].tolist() == list(CLASSES)
    correct = Predictions.load(made / "ten/eval/predictions.npz").correct
    assert correct.tolist() == (logits.argmax(1) == labels).tolist()
    assert score_run(made / "ten", device="cpu").tolist() == correct.tolist()


def test_scoring_again_gives_the_same_bytes_and_leaves_no_other_file(made: Path) -> None:
    names = ["confusion.png", "metrics.json", "predictions.npz"]
    out = made / "linear/eval"
    bytes_of = []
    for _ in range(2):
        evaluate(settings(made / "linear"))
        assert sorted(p.name for p in out.iterdir()) == names
        bytes_of.append([(out / name).read_bytes() for name in names])
    assert bytes_of[0] == bytes_of[1]


def test_maps_are_read_in_batches(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, take = [], FeatureCache.take
    monkeypatch.setattr(
        FeatureCache, "take", lambda c, rows, *a: sizes.append(len(rows)) or take(c, rows, *a)
    )
    evaluate(settings(made / "ten", batch=40))
    assert sizes == [40, 40, 40, 30]


def test_the_runs_classes_choose_and_order_the_test_rows(made: Path, tmp_path: Path) -> None:
    chosen = ("fox", "ant", "cow")
    run = head(made / "cache", tmp_path / "run", classes=chosen)
    found = json.loads(evaluate(settings(run)).read_text())
    logits, labels, paths = reference(run, made / "cache/test.h5", chosen)
    kept = Predictions.load(run / "eval/predictions.npz")
    assert kept.paths.tolist() == paths
    assert kept.labels.tolist() == labels.tolist()
    assert [Path(p).parent.name for p in paths] == [chosen[label] for label in labels]
    assert found["top1"] == pytest.approx(100 * accuracy_score(labels, logits.argmax(1)))
    assert list(found["per_class"]) == list(chosen)
    assert found["top5"] is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_mirrored_views_and_other_dtypes_reach_the_head(dtype: str, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", views="mirror", dtype=dtype)
    run = head(cache, tmp_path / "run", crops="ten-image")
    evaluate(settings(run))
    stored = torch.from_numpy(FeatureCache(cache / "test.h5").take(np.arange(150), None))
    maps = stored.view(torch.bfloat16).float() if dtype == "bfloat16" else stored
    logits = load_head(run).logits(maps).numpy()
    kept = Predictions.load(run / "eval/predictions.npz").logits
    np.testing.assert_allclose(kept, logits, rtol=1e-4, atol=1e-5)


def test_a_sweep_is_scored_as_its_best_head(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = head(made / "cache", tmp_path / "sweep", lr=(1e-6, 0.05))
    path = evaluate(settings(sweep))
    assert path.parent.parent == sweep / "lr0.05-wd0.0005-seed0"
    assert "lr0.05-wd0.0005-seed0 is best by validation" in capsys.readouterr().out


def test_the_table_has_a_line_per_run_and_the_paths_follow(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(settings(made / "ten", made / "linear", out=str(tmp_path / "c.json")))
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("run "))
    assert lines[start].split() == ["run", "top-1", "%", "top-5", "%", "NLL", "ECE", "%"]
    for line, run in zip(lines[start + 1 :], ("ten", "linear"), strict=False):
        found = json.loads((made / run / "eval/metrics.json").read_text())
        numbers = [
            f"{found['top1']:.2f}",
            f"{found['top5']:.2f}",
            f"{found['nll']:.4f}",
            f"{found['ece']:.2f}",
        ]
        assert line.split() == [str(made / run), *numbers]
    assert all(Path(line).is_file() for line in lines[-7:])


def test_a_comparison_is_the_paired_interval_of_the_kept_predictions(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep/comparison.json"
    evaluate(settings(made / "ten", made / "linear", made / "ten", out=str(out), seed=3))
    ten, linear = (
        Predictions.load(made / name / "eval/predictions.npz").correct for name in ("ten", "linear")
    )
    found = json.loads(out.read_text())
    expected = paired_interval(ten, linear, resamples=500, seed=3)
    assert (found["baseline"], found["images"]) == (str(made / "ten"), 150)
    assert found["runs"][0] == {"run": str(made / "linear"), **expected._asdict()}
    assert found["runs"][0]["difference"] == pytest.approx(100 * (linear.mean() - ten.mean()))
    assert found["runs"][1] == {"run": str(made / "ten"), "difference": 0.0, "low": 0.0, "high": 0.0}


def test_runs_on_other_images_are_not_compared(made: Path, tmp_path: Path) -> None:
    few = head(made / "cache", tmp_path / "few", classes=CLASSES[:3])
    with pytest.raises(RunError, match=r"few: can't be compared with .*ten, .*: 150 of them, here \d+"):
        evaluate(settings(made / "ten", few))


@pytest.mark.parametrize("field", ["paths", "classes"])
def test_the_first_image_that_differs_is_named(field: str, made: Path, tmp_path: Path) -> None:
    evaluate(settings(made / "ten"))
    kept = Predictions.load(made / "ten/eval/predictions.npz")
    other = kept._replace(**{field: getattr(kept, field).copy()})
    row = 17 if field == "paths" else int(kept.labels.argmin())  # the first image of the first class
    getattr(other, field)[row if field == "paths" else 0] = "yak"
    other.save(tmp_path / "eval/predictions.npz")
    with pytest.raises(RunError, match=rf"other images: number {row} is test/.*, here .*yak"):
        compare(settings(made / "ten"), [made / "ten", tmp_path])


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"trunk": {**IDENTITY["trunk"], "weights": "cd" * 32}}, r"trunk\.weights: .*abab.* → .*cdcd"),
        ({"transform": {"image_px": 64}}, r"transform\.image_px: 32 → 64"),
        ({"views": "mirror"}, 'views: "plain" → "mirror"'),
        ({"dtype": "float32"}, 'dtype: "float16" → "float32"'),
        ({"precision": "bfloat16"}, 'precision: "float32" → "bfloat16"'),
    ],
)
def test_maps_made_otherwise_are_refused_by_name(
    changed: dict[str, Any], named: str, made: Path, tmp_path: Path
) -> None:
    other = write_split(tmp_path, "test", 20, **changed)
    with pytest.raises(StaleCacheError, match=named):
        evaluate(settings(made / "ten", cache=str(other)))


def test_other_images_and_unused_views_are_no_reason_to_refuse(made: Path, tmp_path: Path) -> None:
    other = write_split(tmp_path, "test", 20)
    found = json.loads(evaluate(settings(made / "ten", cache=str(other))).read_text())
    assert found["images"] == 20
    cache = tmp_path / "augmented"
    shutil.copytree(made / "cache", cache)
    run = tmp_path / "run"
    shutil.copytree(made / "ten", run)
    described = json.loads((run / "config.json").read_text())
    described["cache_identity"] |= {"views": "augment:3", "views_seed": 0}
    (run / "config.json").write_text(json.dumps(described))
    evaluate(settings(run, cache=str(cache)))


def copy_of(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def test_a_missing_or_unfinished_run_is_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nowhere: no run there; train_head\.py --out"):
        evaluate(settings(tmp_path / "nowhere"))
    half = copy_of(made / "ten", tmp_path)
    for name in ("summary.json", "head.safetensors"):
        (half / name).unlink()
    with pytest.raises(RunError, match="copy: the run isn't finished"):
        evaluate(settings(half))


def test_a_folder_of_an_unknown_stage_is_refused(made: Path, tmp_path: Path) -> None:
    run = copy_of(made / "ten", tmp_path)
    (run / "config.json").write_text('{"stage": "dream"}')
    with pytest.raises(RunError, match="expected the stage train or pretrain, found 'dream'"):
        evaluate(settings(run))


def test_a_whole_network_is_not_compared_with_heads(made: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"stage": "pretrain"}')
    with pytest.raises(RunError, match="a whole network can't be compared"):
        evaluate(settings(made / "ten", tmp_path))


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_is_scored_by_a_function_of_config_and_folder(stage: str) -> None:
    parameters = inspect.signature(resolve(STAGES, stage)).parameters.values()
    assert [p.annotation for p in parameters] == [EvaluateConfig, Path]


def test_a_cache_without_a_test_split_names_the_command_that_makes_it(made: Path, tmp_path: Path) -> None:
    write_split(tmp_path, "train", 240)
    with pytest.raises(CacheError, match=r"test\.h5: no such file; extract_features\.py --cache "):
        evaluate(settings(made / "ten", cache=str(tmp_path)))


def test_a_class_that_the_cache_lacks_is_named(made: Path, tmp_path: Path) -> None:
    run = copy_of(made / "ten", tmp_path)
    described = json.loads((run / "config.json").read_text())
    described["class_names"][2] = "yak"
    (run / "config.json").write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"test\.h5: lacks the class 'yak'"):
        evaluate(settings(run))


def test_damaged_maps_are_not_scored(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made / "cache", tmp_path / "cache"))
    with h5py.File(cache / "test.h5") as file:
        features = file["features"]
        assert isinstance(features, h5py.Dataset)
        offset = features.id.get_offset()
    with open(cache / "test.h5", "r+b") as file:
        file.seek(offset + 100)
        file.write(b"\xaa\xbb")
    with pytest.raises(CacheError, match=r"test\.h5"):
        evaluate(settings(made / "ten", cache=str(cache)))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 torn", None])
def test_missing_or_damaged_predictions_are_named(damage: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(RunError, match=r"predictions\.npz: no predictions"):
        Predictions.load(path)
