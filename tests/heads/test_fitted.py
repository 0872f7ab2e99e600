"""Heads that are computed at once, against scikit-learn and loops in float64 on the same pooled maps."""

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
from toy import config, write_cache, write_multilabel_cache

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, RunError
from pipeline.heads import knn, logistic
from pipeline.heads.base import Examples, HeadSpec
from pipeline.heads.knn import COUNTS, TEMPERATURE, NearestNeighbours
from pipeline.heads.logistic import STRENGTHS, Logistic
from pipeline.labels import split
from pipeline.predictions import predict
from pipeline.runs import LoadedHead, load_head
from pipeline.train import train

CLASSES = 4
TOLERANCES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 2e-3)], ids=["float64", "float32"]
)


def examples(images: int, seed: int, dtype: torch.dtype = torch.float64) -> Examples:
    """Five channels, four classes that overlap."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (images,), generator=draw)
    centres = torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(9))
    return Examples((centres[labels] + torch.randn(images, 5, generator=draw)).to(dtype), labels)


def several(images: int, seed: int, dtype: torch.dtype = torch.float64) -> Examples:
    """Five channels, any of four classes, a fifth of the labels not counted."""
    draw = torch.Generator().manual_seed(seed)
    labels = (torch.rand(images, CLASSES, generator=draw) < 0.3).to(torch.int8)
    centres = torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(9))
    inputs = labels.float() @ centres + torch.randn(images, 5, generator=draw)
    labels[torch.rand(images, CLASSES, generator=draw) < 0.2] = -1
    return Examples(inputs.to(dtype), labels)


def spec(data: Examples, **settings: Any) -> HeadSpec:
    return HeadSpec(TrainConfig(**settings), (5, 3, 3), CLASSES, (0,), len(data.labels), data.labels.ndim > 1)


def numbers(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()


@TOLERANCES
def test_logistic_regression_is_scikit_learn_s(dtype: torch.dtype, tolerance: float) -> None:
    """Probabilities within 1e-5 in float64 and 2e-3 in float32, for each strength, from the one before."""
    data, others = examples(300, 0, dtype), examples(100, 1, dtype)
    head = Logistic(spec(data)).to(dtype)
    assert head.fit(data, choose=True) == [{"l2": strength} for strength in STRENGTHS]
    for strength, logits in zip(STRENGTHS, head(others.inputs), strict=True):
        theirs = LogisticRegression(C=1 / (300 * strength), tol=1e-10, max_iter=10_000)
        theirs.fit(numbers(data.inputs), data.labels.numpy())
        expected = theirs.predict_proba(numbers(others.inputs))
        np.testing.assert_allclose(numbers(logits.softmax(1)), expected, rtol=0, atol=tolerance)


@TOLERANCES
@pytest.mark.parametrize("rows", [7, 8192])
def test_logistic_regression_of_several_labels_is_one_of_scikit_learn_s_for_each(
    monkeypatch: pytest.MonkeyPatch, rows: int, dtype: torch.dtype, tolerance: float
) -> None:
    """On the images whose label is counted, in whatever portions the images are taken."""
    monkeypatch.setattr(logistic, "ROWS", rows)
    data, others = several(300, 0, dtype), several(100, 1, dtype)
    head = Logistic(spec(data)).to(dtype)
    head.fit(data, choose=True)
    for strength, logits in zip(STRENGTHS, head(others.inputs), strict=True):
        for k in range(CLASSES):
            counted = data.labels[:, k] >= 0
            assert 0 < counted.sum() < 300
            theirs = LogisticRegression(C=1 / (300 * strength), tol=1e-10, max_iter=10_000)
            theirs.fit(numbers(data.inputs[counted]), data.labels[counted, k].numpy())
            expected = theirs.predict_proba(numbers(others.inputs))[:, 1]
            np.testing.assert_allclose(numbers(logits[:, k].sigmoid()), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("cells", [1, 1 << 24])
def test_neighbours_vote_as_scikit_learn_s_do(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(knn, "CELLS", cells)
    data, others = examples(300, 0), examples(50, 1)
    head = NearestNeighbours(spec(data)).double()
    assert head.fit(data, choose=True) == [{"neighbours": k} for k in COUNTS]
    weigh: Any = lambda far: np.exp((1 - far) / TEMPERATURE)  # noqa: E731
    for k, logits in zip(COUNTS, head(others.inputs), strict=True):
        theirs = KNeighborsClassifier(k, metric="cosine", weights=weigh)
        theirs.fit(data.inputs.numpy(), data.labels.numpy())
        shares = np.asarray(theirs.predict_proba(others.inputs.numpy()))
        expected = (k * shares + 1 / CLASSES) / (k + 1)
        np.testing.assert_allclose(numbers(logits.softmax(1)), expected, rtol=1e-9)


def share(query: NDArray[np.float64], data: Examples, label: int, k: int) -> tuple[float, int]:
    """The weight of the neighbours with the label, of all that count; how many count. In plain loops."""
    bank, labels = data.inputs.numpy(), data.labels.numpy()
    cosines = [row @ query / np.sqrt((row @ row) * (query @ query)) for row in bank]
    present = counted = 0.0
    voters = 0
    for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
        if labels[i, label] != -1:
            weight = np.exp(cosines[i] / TEMPERATURE)
            counted, voters = counted + weight, voters + 1
            present += weight if labels[i, label] == 1 else 0
    return (present / counted if voters else 0.0), voters


@pytest.mark.parametrize("cells", [1, 1 << 24])
def test_neighbours_of_several_labels_vote_where_their_label_is_counted(
    monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    """The sigmoid of a score is the share with one vote more, half for and half against."""
    monkeypatch.setattr(knn, "CELLS", cells)
    data, others = several(120, 0), several(10, 1)
    head = NearestNeighbours(spec(data)).double()
    counts = [setting["neighbours"] for setting in head.fit(data, choose=True)]
    assert counts == [1, 3, 5, 10, 20, 50, 100]
    silent = 0
    for k, logits in zip(counts, head(others.inputs), strict=True):
        found = numbers(logits.sigmoid())
        for image, query in enumerate(others.inputs.numpy()):
            for label in range(CLASSES):
                expected, voters = share(query, data, label, k)
                silent += voters == 0
                expected = (voters * expected + 0.5) / (voters + 1)
                assert found[image, label] == pytest.approx(expected, rel=1e-9)
    assert silent  # a single neighbour whose label isn't counted says nothing


def test_a_label_that_is_never_absent_and_one_that_is_never_counted_are_scored() -> None:
    data = several(60, 0, torch.float32)
    data.labels[:, 0], data.labels[:, 1] = 1, -1
    for head in (Logistic(spec(data)), NearestNeighbours(spec(data))):
        head.fit(data, choose=True)
        scores = head(data.inputs)
        assert scores.isfinite().all()
        assert (scores[..., 0] > 0).all()
        assert (scores[..., 1] == 0).all()


@pytest.mark.parametrize("head", [Logistic, NearestNeighbours])
def test_one_label_each_under_a_binary_loss_is_each_class_against_the_rest(
    head: type[Logistic] | type[NearestNeighbours],
) -> None:
    """--loss bce: as if the labels were columns."""
    data, others = examples(150, 0), examples(40, 1)
    columns = Examples(data.inputs, torch.nn.functional.one_hot(data.labels).to(torch.int8))
    one, each = head(spec(data, loss="bce")).double(), head(spec(columns)).double()
    one.fit(data, choose=True)
    each.fit(columns, choose=True)
    torch.testing.assert_close(one(others.inputs), each(others.inputs), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["knn", "logistic"])
@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_a_run_folder_like_any_other(tmp_path: Path, name: str, fraction: float) -> None:
    """Learned from the training part alone, scored on the test split, repeated exactly."""
    folder = write_cache(tmp_path / "cache", noise=4.0)
    write_cache(tmp_path / "cache", images=30, noise=4.0, split="test")
    settings = config(folder, tmp_path / "run", head=name, val_fraction=fraction, lr=(0.1, 0.2), seed=(0, 1))
    run = train(settings)
    found, data = predict(run), FeatureCache(folder / "train.h5")
    assert found.logits.shape == (30, 3)
    assert found.correct.mean() > 0.6
    summary = json.loads((run / "summary.json").read_text())
    assert (summary["lr"], summary["seed"]) == (None, None)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if fraction:
        assert len(lines) == {"knn": 6, "logistic": 6}[name]
        assert len({line["val_loss"] for line in lines}) == len(lines)
        best = min((-line["val_top1"], line["val_loss"]) for line in lines)
        assert (-summary["val_top1"], summary["val_loss"]) == best
        _, val = split(data.labels, data.classes, settings)
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
    run = train(settings := config(folder, tmp_path / "run", head=name, val_fraction=0.3))
    loaded, summary = load_head(run), json.loads((run / "summary.json").read_text())
    maps, classes = contents(folder / "train.h5")
    assert maps.shape[:2] == (90, 3)
    learned, val = split(classes, loaded.classes, settings)
    inputs, repeated = pooled(loaded, maps[learned.rows]), np.repeat(learned.labels, 3)
    assert len(inputs) == len(repeated) == 189
    plain = pooled(loaded, maps[val.rows, :1])
    if name == "knn":
        k, weigh = summary["neighbours"], lambda far: np.exp((1 - far) / TEMPERATURE)
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
    run = train(settings := config(folder, tmp_path / "run", head="logistic", val_fraction=0.3))
    loaded, summary = load_head(run), json.loads((run / "summary.json").read_text())
    maps, labels = contents(folder / "train.h5")
    learned, val = split(labels, loaded.classes, settings)
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


def test_a_run_of_an_earlier_version_without_the_augmented_views_is_loaded_and_not_taken_for_finished(
    tmp_path: Path,
) -> None:
    plain, folder = write_cache(tmp_path / "plain"), write_cache(tmp_path / "cache", views="augment:2")
    former, run = (train(config(c, tmp_path / f"run-{c.name}", head="knn")) for c in (plain, folder))
    described = json.loads((run / "config.json").read_text())
    assert described.pop("train_maps") == 3 * described["train_images"]
    (run / "config.json").write_text(json.dumps(described))
    (run / "head.safetensors").write_bytes((former / "head.safetensors").read_bytes())
    assert load_head(run).logits(torch.zeros(2, 3, 4, 5, 5)).shape == (2, 3)
    with pytest.raises(RunError, match="with the number of maps None, not 243; give another --out"):
        train(config(folder, run, head="knn"))


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
