"""Evaluation end to end: synthetic caches, heads trained on them, scores against h5py and scikit-learn."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss
from support.evaluating import (
    CLASSES,
    copy_of,
    head,
    predictions,
    reference,
    settings,
    two_heads,
    write_cache,
)

from cache import FeatureCache
from pipeline.evaluation.logits import score_run
from pipeline.evaluation.stage import evaluate
from pipeline.runs.folder import load_head


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache and two heads on it: ten, and linear."""
    return two_heads(tmp_path_factory.mktemp("made"))


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
    test = FeatureCache(made / "cache/test.h5")
    assert found["cache"] == {"path": str(test.path), "key": test.key, "images": test.images_digest}
    assert found["trained_on"] == 0
    assert (made / "ten/eval/confusion.png").read_bytes().startswith(b"\x89PNG")


def test_predictions_are_kept_and_read_back_without_pickles(made: Path) -> None:
    evaluate(settings(made / "ten"))
    logits, labels, paths = reference(made / "ten", made / "cache/test.h5")
    with np.load(made / "ten/eval/predictions.npz", allow_pickle=False) as kept:
        about = ["cache_images", "cache_key", "cache_path", "classes", "image_digests"]
        assert sorted(kept) == [*about, "labels", "logits", "paths"]
        assert kept["logits"].dtype == np.float32
        np.testing.assert_allclose(kept["logits"], logits, rtol=1e-4, atol=1e-5)
        assert kept["labels"].tolist() == labels.tolist()
        assert bytes(kept["paths"]).decode() == "".join(f"{path}\0" for path in paths)
        test = FeatureCache(made / "cache/test.h5")
        assert kept["image_digests"].tolist() == test.image_digests.tolist()
        assert (str(kept["cache_key"]), str(kept["cache_images"])) == (test.key, test.images_digest)
        assert kept["classes"].tolist() == list(CLASSES)
    correct = predictions(made / "ten").correct
    assert correct.tolist() == (logits.argmax(1) == labels).tolist()
    assert score_run(made / "ten", device="cpu").correct.tolist() == correct.tolist()


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
    kept = predictions(run)
    assert list(kept.paths) == paths
    assert kept.labels.tolist() == labels.tolist()
    assert [Path(p).parent.name for p in paths] == [chosen[label] for label in labels]
    assert found["top1"] == pytest.approx(100 * accuracy_score(labels, logits.argmax(1)))
    assert list(found["per_class"]) == list(chosen)
    assert found["top5"] is None


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_mirrored_views_and_other_dtypes_reach_the_head(dtype: str, tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", views="mirror", dtype=dtype)
    run = head(cache, tmp_path / "run", crops="ten-image")
    evaluate(settings(run))
    test = FeatureCache(cache / "test.h5")
    maps = torch.from_numpy(test.decode(test.take(np.arange(150), None)))
    logits = load_head(run).logits(maps).numpy()
    kept = predictions(run).logits
    np.testing.assert_allclose(kept, logits, rtol=1e-4, atol=1e-5)


def test_a_sweep_is_scored_as_its_best_head(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = head(made / "cache", tmp_path / "sweep", lr=(1e-6, 0.05))
    path = evaluate(settings(sweep))
    assert path.parent.parent == sweep / "lr0.05-wd0.0005-seed0"
    said = capsys.readouterr().out
    assert f"\nbest by validation in {sweep}: lr0.05-wd0.0005-seed0 (top-1 " in said
    assert sum(line.startswith(str(sweep)) for line in said.splitlines()) == 5  # trained, a row, three files


def test_figures_are_kept_where_a_picture_fails(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = copy_of(made / "ten", tmp_path)
    evaluate(settings(run))
    before = json.loads((run / "eval/metrics.json").read_text())
    shutil.rmtree(run / "eval")

    def fails(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("pipeline.evaluation.stage.plot_confusion", fails)
    with pytest.raises(OSError, match="no room"):
        evaluate(settings(run))
    assert json.loads((run / "eval/metrics.json").read_text()) == before
    assert predictions(run).logits.shape == (150, 6)
