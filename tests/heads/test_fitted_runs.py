"""Run folders of heads that are computed at once: chosen by validation, learned from every drawn view."""

import json
import re
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from support.toy import config, write_cache, write_multilabel_cache

from cache import FeatureCache
from pipeline.errors import ConfigError
from pipeline.evaluation.logits import score_run
from pipeline.heads.logistic import STRENGTHS
from pipeline.maps.parts import split
from pipeline.runs.folder import LoadedHead, load_head
from pipeline.training.stage import parts_of, train


@pytest.mark.parametrize("name", ["knn", "logistic"])
@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_a_run_folder_like_any_other(tmp_path: Path, name: str, fraction: float) -> None:
    """Learned from the training part alone, scored on the test split, repeated exactly."""
    folder = write_cache(tmp_path / "cache", noise=4.0)
    write_cache(tmp_path / "cache", images=30, noise=4.0, split="test")
    settings = config(folder, tmp_path / "run", head=name, val_fraction=fraction, lr=(0.1, 0.2), seed=(0, 1))
    run = train(settings)
    found, data = score_run(run), FeatureCache(folder / "train.h5")
    assert found.logits.shape == (30, 3)
    assert found.correct.mean() > 0.6
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["lr"], summary["seed"]) == (None, None)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if fraction:
        assert len(lines) == {"knn": 6, "logistic": len(STRENGTHS)}[name]
        assert len({line["val_loss"] for line in lines}) == len(lines)
        best = min((-line["val_top1"], line["val_loss"]) for line in lines)
        assert (-summary["val_top1"], summary["val_loss"]) == best
        _, val = parts_of(settings, data)
        logits = load_head(run).logits(torch.from_numpy(data.take(val.rows, view=None)))
        top1 = 100 * (logits.argmax(1).numpy() == val.labels).mean()
        assert summary["val_top1"] == pytest.approx(top1)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(val.labels))
        assert float(loss) == pytest.approx(summary["val_loss"], rel=1e-5)
    else:
        assert len(lines) == 1
        assert (summary["val_top1"], summary["val_loss"]) == (None, None)
    again = train(config(folder, tmp_path / "again", head=name, val_fraction=fraction))
    assert (again / "head.safetensors").read_bytes() == (run / "head.safetensors").read_bytes()


def contents(path: Path) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """(maps, labels) by h5py."""
    with h5py.File(path) as file:
        features, labels = file["features"], file["labels"]
        assert isinstance(features, h5py.Dataset)
        assert isinstance(labels, h5py.Dataset)
        return features[:], labels[:]


def pooled(loaded: LoadedHead, maps_BVCHW: NDArray[np.float32]) -> NDArray[np.float64]:
    """Each view as the head reads it, (B·V, C), an image's side by side."""
    views = torch.from_numpy(maps_BVCHW).flatten(0, 1)[:, None]
    return loaded.inputs(views).double().numpy()


@pytest.mark.parametrize("name", ["knn", "logistic"])
def test_every_augmented_view_is_an_example_and_an_image_is_scored_as_it_is(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scikit-learn's estimator of all views of the training part, on view 0 of the validation part."""
    folder = write_cache(tmp_path / "cache", noise=12.0, views="augment:2")
    run = train(config(folder, tmp_path / "run", head=name, val_fraction=0.3))
    loaded, summary = load_head(run), json.loads((run / "summary.json").read_text())
    maps, classes = contents(folder / "train.h5")
    assert maps.shape[:2] == (90, 3)
    learned, val = split(classes, loaded.classes, val_fraction=0.3, data_seed=0)
    inputs, repeated = pooled(loaded, maps[learned.rows]), np.repeat(learned.labels, 3)
    assert len(inputs) == len(repeated) == 189
    plain = pooled(loaded, maps[val.rows, :1])
    if name == "knn":
        k, weigh = summary["neighbours"], lambda far: np.exp((1 - far) / 0.07)
        theirs = KNeighborsClassifier(k, metric="cosine", weights=weigh).fit(inputs, repeated)  # pyright: ignore[reportArgumentType]
        expected = (k * np.asarray(theirs.predict_proba(plain)) + 1 / 3) / (k + 1)
    else:
        strength = 1 / (189 * summary["l2"])
        theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000).fit(inputs, repeated)
        expected = theirs.predict_proba(plain)
    found = loaded.logits(torch.from_numpy(maps[val.rows])).softmax(1).double().numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert summary["val_top1"] == pytest.approx(100 * (expected.argmax(1) == val.labels).mean())
    said = capsys.readouterr().out
    assert "63 images × 3 views to train on, 27 to validate" in said
    assert f"1 head: {name}, computed from all 189 maps at once on cpu" in said


def test_every_augmented_view_has_all_labels_of_its_image(tmp_path: Path) -> None:
    folder = write_multilabel_cache(tmp_path / "cache", views="augment:2")
    run = train(config(folder, tmp_path / "run", head="logistic", val_fraction=0.3))
    loaded, summary = load_head(run), json.loads((run / "summary.json").read_text())
    maps, labels = contents(folder / "train.h5")
    learned, val = split(labels, loaded.classes, val_fraction=0.3, data_seed=0)
    inputs, repeated = pooled(loaded, maps[learned.rows]), np.repeat(learned.labels, 3, axis=0)
    found = loaded.logits(torch.from_numpy(maps[val.rows])).sigmoid().double().numpy()
    assert (repeated == -1).any()
    for k in range(len(loaded.classes)):
        counted = repeated[:, k] >= 0
        strength = 1 / (len(inputs) * summary["l2"])
        theirs = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
        theirs.fit(inputs[counted], repeated[counted, k])
        expected = theirs.predict_proba(pooled(loaded, maps[val.rows, :1]))[:, 1]
        np.testing.assert_allclose(found[:, k], expected, rtol=0, atol=1e-5)


def test_maps_that_do_not_fit_into_the_budget_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    """Every view of an image counts: seven are too many where one is not."""
    for views in ("plain", "augment:6"):
        folder = write_cache(tmp_path / views, images=800, shape=(64, 2, 2), views=views)
        settings = config(folder, tmp_path / f"run-{views}", head="knn", memory_budget_mb=4)
        if views == "plain":
            assert (train(settings) / "summary.json").exists()
            continue
        message = (
            "--memory-budget-mb: knn takes all maps at once, N MB for 5,114 of them, found 4; raise it or "
            "take linear, which takes them batch by batch"
        )
        with pytest.raises(ConfigError) as caught:
            train(settings)
        assert re.sub(r"\d+ MB", "N MB", str(caught.value)) == message
        assert not settings.run_dir.exists()
