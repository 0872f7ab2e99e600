"""Evaluation of several labels per image, end to end: scores against h5py and scikit-learn."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_fscore_support
from support.evaluating import predictions
from support.toy import CLASSES, config, write_cache, write_multilabel_cache

from cache import FeatureCache
from pipeline.config import EvaluateConfig
from pipeline.errors import RunError
from pipeline.evaluation.compare import in_order
from pipeline.evaluation.logits import score_run
from pipeline.evaluation.stage import evaluate
from pipeline.metrics.bootstrap import mean_ap_interval
from pipeline.metrics.multilabel import UNITS
from pipeline.runs.folder import load_head
from pipeline.training.stage import train

SETTINGS: dict[str, Any] = {
    "head": "gmp",
    "precision": "float32",
    "lr": (0.1,),
    "val_fraction": 0.2,
    "epochs": 12,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache and heads on it, trained and computed, one of which knows the classes in another order."""
    folder = tmp_path_factory.mktemp("made")
    cache = write_multilabel_cache(folder / "cache")
    write_multilabel_cache(cache, 150, split="test")
    train(config(cache, folder / "linear", **SETTINGS))
    train(config(cache, folder / "turned", **{**SETTINGS, "classes": CLASSES[::-1], "seed": (1,)}))
    for name in ("knn", "logistic"):
        train(config(cache, folder / name, **{**SETTINGS, "head": name, "val_fraction": 0.0}))
    return folder


def settings(*runs: Path, **changed: Any) -> EvaluateConfig:
    several = {"resamples": 200} if len(runs) > 1 else {}
    return EvaluateConfig(run=tuple(map(str, runs)), **{"device": "cpu", **several, **changed})


def reference(run: Path, classes: tuple[str, ...]) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """(logits, labels) of all test images, read by h5py."""
    with h5py.File(run.parent / "cache/test.h5") as file:
        features, labels = file["features"], file["labels"]
        assert isinstance(features, h5py.Dataset)
        assert isinstance(labels, h5py.Dataset)
        maps, labels_NK = torch.from_numpy(features[:].astype(np.float32)), labels[:]
    return load_head(run).logits(maps).numpy(), labels_NK[:, [CLASSES.index(name) for name in classes]]


def metrics_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "eval/metrics.json").read_text())


@pytest.mark.parametrize(
    ("run", "classes"),
    [("linear", CLASSES), ("turned", CLASSES[::-1]), ("knn", CLASSES), ("logistic", CLASSES)],
)
def test_metrics_equal_scikit_learns_on_maps_read_by_h5py(
    run: str, classes: tuple[str, ...], made: Path
) -> None:
    path = evaluate(settings(made / run, batch=32))
    found, (logits, labels) = json.loads(path.read_text()), reference(made / run, classes)
    counted = labels >= 0
    assert (labels[:, 0] == -1).any()
    assert found["images"] == 150
    assert found["classes"] == list(classes) == list(found["per_class"])
    assert found["units"].items() >= UNITS.items()
    rates = []
    for k, name in enumerate(classes):
        mine = counted[:, k]
        expected = average_precision_score(labels[mine, k], logits[mine, k])
        assert found["per_class"][name] == pytest.approx(100 * expected, rel=1e-5)
        binary = precision_recall_fscore_support(labels[mine, k], logits[mine, k] > 0, average="binary")
        rates.append(binary[:2])
    assert found["map"] == pytest.approx(np.mean(list(found["per_class"].values())))
    assert 50 < found["map"] < 100  # learned, and not so easy that nothing could go wrong
    cp, cr = 100 * np.mean(rates, axis=0)
    of1 = precision_recall_fscore_support(labels[counted], logits[counted] > 0, average="binary")[2]
    assert found["at_half"]["cf1"] == pytest.approx(2 * cp * cr / (cp + cr))
    assert found["at_half"]["of1"] == pytest.approx(100 * float(of1))
    assert found["top3"]["or"] == 100  # there are three classes


def test_all_images_are_scored_those_without_a_label_too(made: Path) -> None:
    evaluate(settings(made / "linear"))
    kept = predictions(made / "linear")
    assert list(kept.paths) == list(FeatureCache(made / "cache/test.h5").paths)
    assert (kept.labels < 1).all(1).any()
    assert (kept.labels.dtype, kept.labels.shape, kept.logits.shape) == (np.int8, (150, 3), (150, 3))


def test_a_head_of_some_classes_is_scored_by_their_columns(made: Path) -> None:
    chosen = ("cow", "ant")
    run = train(config(made / "cache", made / "two", **SETTINGS, classes=chosen))
    evaluate(settings(run))
    kept, (logits, labels) = predictions(run), reference(run, chosen)
    assert kept.classes.tolist() == list(chosen)
    np.testing.assert_array_equal(kept.labels, labels)
    np.testing.assert_allclose(kept.logits, logits, rtol=1e-4, atol=1e-5)


def test_scoring_again_gives_the_same_bytes_and_leaves_no_other_file(made: Path) -> None:
    names, bytes_of = ["ap.png", "metrics.json", "predictions.npz"], []
    for _ in range(2):
        evaluate(settings(made / "linear"))
        assert sorted(p.name for p in (made / "linear/eval").iterdir()) == names
        bytes_of.append([(made / "linear/eval" / name).read_bytes() for name in names])
    assert bytes_of[0] == bytes_of[1]
    assert bytes_of[0][0].startswith(b"\x89PNG")


def test_a_sweep_is_scored_as_its_head_with_the_best_map(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = train(config(made / "cache", made / "sweep", **{**SETTINGS, "lr": (1e-6, 0.1)}))
    assert evaluate(settings(sweep)).parent.parent.name.startswith("lr0.1-")
    assert "best by validation in" in capsys.readouterr().out


def test_the_table_shows_both_kinds_of_map_and_both_of_cf1(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(settings(made / "linear"))
    lines = capsys.readouterr().out.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("run "))
    found = metrics_of(made / "linear")
    assert lines[start].split(maxsplit=1)[1].split("  ")[0].strip() == "mAP %"
    numbers = [found["map"], found["map_11_point"], found["at_half"]["cf1"], found["at_half"]["of1"]]
    numbers += [found["top3"]["cf1"], found["top3"]["of1"]]
    assert lines[start + 1].split() == [str(made / "linear"), *(f"{n:.2f}" for n in numbers)]


def test_a_comparison_is_the_top1_interval_of_map_whatever_the_order_of_classes(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "comparison.json"
    evaluate(settings(made / "linear", made / "turned", made / "linear", out=str(out), seed=3))
    a, b = (predictions(made / name) for name in ("linear", "turned"))
    expected = mean_ap_interval(a.logits, b.logits[:, ::-1], a.labels, resamples=200, seed=3)
    found = json.loads(out.read_text())
    assert [run["run"] for run in found["runs"]] == [str(made / n) for n in ("linear", "turned", "linear")]
    assert found["runs"][1].items() >= expected._asdict().items()
    assert found["runs"][2].items() >= {"difference": 0.0, "low": 0.0, "high": 0.0}.items()
    assert found["runs"][2] == found["runs"][0]
    difference = metrics_of(made / "turned")["map"] - metrics_of(made / "linear")["map"]
    assert found["runs"][1]["difference"] == pytest.approx(difference)
    assert found["runs"][1]["score"] == metrics_of(made / "turned")["map"]
    assert found["units"]["score"] == "per cent: mAP"
    assert f"mAP minus that of {made / 'linear'}" in capsys.readouterr().out


def test_runs_with_one_label_and_with_several_are_not_compared(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = write_cache(tmp_path / "cache")
    write_cache(cache, split="test")
    single = train(config(cache, tmp_path / "single", **SETTINGS))
    for runs in ([made / "linear", single], [single, made / "linear"]):
        with pytest.raises(RunError, match=r"linear: has several labels per image, .*single has one"):
            evaluate(settings(*runs))
        assert "mAP %" not in capsys.readouterr().out  # nor is a table of both shown


def test_other_classes_or_labels_are_not_compared_and_named(made: Path) -> None:
    evaluate(settings(made / "linear"))
    kept = predictions(made / "linear")
    with pytest.raises(RunError, match="other classes: only one of them has cow, yak"):
        in_order(Path("a"), kept, Path("b"), kept._replace(classes=np.array(["ant", "bee", "yak"])))
    labels = kept.labels.copy()
    labels[17] = (1, 0, -1)
    kept.labels[17] = (0, 0, 0)
    with pytest.raises(
        RunError, match=r"number 17 is test/17.png \(no label\), here it is test/17.png \(ant, cow\?\)"
    ):
        in_order(Path("a"), kept, Path("b"), kept._replace(labels=labels))


def test_images_with_several_labels_are_not_right_or_wrong(made: Path) -> None:
    with pytest.raises(ValueError, match="several labels"):
        _ = score_run(made / "linear", device="cpu").correct
