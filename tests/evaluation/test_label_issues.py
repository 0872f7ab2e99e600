"""`evaluate.py --label-issues`: the table against cleanlab, what it refuses, and giving it back corrected."""

import csv
import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import toy
from support.evaluating import CLASSES, copy_of, head, predictions, settings, write_cache

from cache import CacheHeader, FeatureCache, relabel
from pipeline.config import EvaluateConfig, ExtractConfig
from pipeline.errors import CacheError, ConfigError, RunError
from pipeline.evaluation.stage import evaluate
from pipeline.extraction.stage import extract
from pipeline.runs.out_of_fold import read_out_of_fold
from pipeline.training.stage import train

WRONG = 24


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by folds on a cache of which a tenth of the labels is wrong, in FOLDER/run and FOLDER/cache."""
    folder = tmp_path_factory.mktemp("folds")
    cache = write_cache(folder / "cache")
    relabel(cache / "train.h5", with_labels(FeatureCache(cache / "train.h5"), wrong_rows(), 1))
    head(cache, folder / "run", crops="full", epochs=12, folds=4, val_fraction=None)
    return folder


def wrong_rows() -> np.ndarray:
    return np.random.default_rng(0).choice(240, WRONG, replace=False)


def with_labels(cache: FeatureCache, rows: np.ndarray, by: int) -> CacheHeader:
    """The cache's header with other labels of some rows."""
    labels = np.array(cache.labels, np.int64)
    labels[rows] = (labels[rows] + by) % len(cache.classes)
    return CacheHeader(
        cache.shape, cache.dtype, labels, cache.paths, cache.classes, cache.identity, cache.notes
    )


def lines(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as text:
        return list(csv.DictReader(text))


def test_images_are_ranked_as_cleanlab_ranks_them_and_planted_errors_come_first(
    folds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cleanlab = pytest.importorskip("cleanlab.filter", reason="cleanlab, the reference, isn't installed")
    run, cache = folds / "run", FeatureCache(folds / "cache/train.h5")
    file = evaluate(settings(run, label_issues=True))
    assert file == run / "label_issues.csv"
    table, found = lines(file), read_out_of_fold(run, len(CLASSES))
    probabilities = torch.from_numpy(found.logits).double().softmax(1).numpy()
    given = cache.labels[found.rows]
    theirs = cleanlab.find_label_issues(
        given,
        probabilities,
        return_indices_ranked_by="self_confidence",
        filter_by="prune_by_noise_rate",
        n_jobs=1,
    )
    paths = [cache.paths[int(row)] for row in found.rows[theirs]]
    assert [line["image"] for line in table if line["issue"] == "yes"] == paths
    assert [line["image"] for line in table[: len(paths)]] == paths
    assert sorted(line["image"] for line in table) == sorted(cache.paths)
    row = {path: i for i, path in enumerate(cache.paths)}
    assert all(line["label"] == line["given"] == CLASSES[given[row[line["image"]]]] for line in table)
    own = [float(probabilities[row[line["image"]], CLASSES.index(line["label"])]) for line in table]
    np.testing.assert_allclose([float(line["p_label"]) for line in table], own, atol=1e-4)
    planted = {cache.paths[int(r)] for r in wrong_rows()}
    assert len(planted & {line["image"] for line in table[:WRONG]}) >= 0.7 * WRONG
    right = [line for line in table if line["image"] in planted and line["issue"] == "yes"]
    assert sum(line["suggested"] == line["image"].split("/")[1] for line in right) >= 0.8 * len(right) > 0
    said = capsys.readouterr().out
    assert (
        f"train: {len(paths)} of 240 images have a label that is probably wrong, by heads that didn't" in said
    )


def test_test_images_are_judged_by_the_run_s_own_head(
    folds: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folds / "run"
    evaluate(settings(run))
    file = evaluate(settings(run, label_issues=True, issues_split="test"))
    assert file == run / "label_issues_test.csv"
    scored, table = predictions(run), lines(file)
    shares = torch.from_numpy(scored.logits).double().softmax(1).numpy()
    own = shares[np.arange(len(shares)), scored.labels]
    score = dict(zip(scored.paths, own, strict=True))
    np.testing.assert_allclose(
        [float(x["score"]) for x in table], [score[x["image"]] for x in table], atol=1e-4
    )
    assert {line["split"] for line in table} == {"test"}
    assert "by the run's head" in capsys.readouterr().out
    with pytest.raises(RunError, match="expected a test split, found the split for training"):
        evaluate(settings(run, label_issues=True, issues_split="test", cache=str(swapped(folds))))


def swapped(folds: Path) -> Path:
    """A cache whose test split is the run's training split."""
    folder = folds / "swapped"
    folder.mkdir(exist_ok=True)
    (folder / "test.h5").write_bytes((folds / "cache/train.h5").read_bytes())
    return folder


def test_of_several_labels_each_entry_is_judged(tmp_path: Path) -> None:
    several = pytest.importorskip("cleanlab.multilabel_classification.filter", reason="no cleanlab")
    cache = toy.write_multilabel_cache(tmp_path / "cache")
    run = train(toy.config(cache, tmp_path / "run", head="logistic", folds=3))
    table = lines(evaluate(EvaluateConfig(run=(str(run),), label_issues=True, device="cpu")))
    data, found = FeatureCache(cache / "train.h5"), read_out_of_fold(run, 3)
    probabilities = torch.from_numpy(found.logits).double().sigmoid().numpy()
    k, counted = 2, data.labels[:, 2] >= 0
    lists = [[0] if row == 1 else [] for row in data.labels[counted, k]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = several.find_multilabel_issues_per_class(
            lists, probabilities[counted, k : k + 1], filter_by="prune_by_noise_rate", n_jobs=1
        )[:, 0]
    paths = np.array(list(data.paths))[counted][theirs]
    name = toy.CLASSES[k]
    doubted = [x["image"] for x in table if name in (x["add"] + "|" + x["remove"]).split("|")]
    assert sorted(doubted) == sorted(paths)
    for line in table:
        labels, add, remove, new = (
            {name for name in line[column].split("|") if name}
            for column in ("label", "add", "remove", "suggested")
        )
        assert new == (labels | add) - remove
        assert not labels & add
        assert remove <= labels
        assert (line["issue"] == "yes") == bool(add | remove)


def test_probabilities_that_may_be_by_heart_are_refused(folds: Path, tmp_path: Path) -> None:
    plain = head(folds / "cache", tmp_path / "plain")
    with pytest.raises(
        RunError, match=r"plain: has no scores of images by .*; train it again with --folds 5 and"
    ):
        evaluate(settings(plain, label_issues=True))
    other = tmp_path / "cache"
    other.mkdir()
    (other / "train.h5").write_bytes((folds / "cache/train.h5").read_bytes())
    cache = FeatureCache(other / "train.h5")
    relabel(cache.path, with_labels(cache, np.array([7]), 1))
    with pytest.raises(
        CacheError, match=r"train.h5: has other labels than those that .*copy was trained on; tra"
    ):
        evaluate(settings(copy_of(folds / "run", tmp_path), label_issues=True, cache=str(other)))
    for changed in ({"seed": 3}, {"resamples": 200}, {"out": "x"}, {"duplicate_cosine": 0.9}):
        with pytest.raises(ConfigError, match="has no effect on --label-issues"):
            evaluate(settings(folds / "run", label_issues=True, **changed))
    with pytest.raises(ConfigError, match="has no effect on a single head"):
        evaluate(settings(folds / "run", issues_split="test"))


def test_a_corrected_table_given_back_changes_labels_and_keeps_features(
    photos: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags: dict[str, Any] = {
        "dataset": f"folder:{photos}",
        "weights": str(weights),
        "cache": str(tmp_path / "cache"),
        "device": "cpu",
    }
    made = extract(ExtractConfig(**flags))
    before = FeatureCache(made / "train.h5")
    digest, labels = sha256(before), before.labels.tolist()
    run = train(evaluating_config(made, tmp_path / "run"))
    file = evaluate(settings(run, label_issues=True))
    table = lines(file)
    changed = {line["image"]: "ü" if line["given"] == "a b" else "a b" for line in table[:3]}
    with file.open("w", encoding="utf-8-sig", newline="") as text:
        writer = csv.DictWriter(text, table[0].keys(), delimiter=";")
        writer.writeheader()
        writer.writerows(line | {"label": changed.get(line["image"], line["label"])} for line in table)
    capsys.readouterr()
    extract(ExtractConfig(**flags, labels=str(file)))
    said = capsys.readouterr().out
    assert "train.h5: labels updated, features kept" in said
    assert "gives 3 of the 80 images another label" in said
    after = FeatureCache(made / "train.h5")
    wanted = [changed.get(path, before.classes[labels[row]]) for row, path in enumerate(before.paths)]
    assert [after.classes[label] for label in after.labels] == wanted
    assert sha256(after) == digest
    assert (after.key, after.images_digest) == (before.key, before.images_digest)
    extract(ExtractConfig(**flags))
    assert FeatureCache(made / "train.h5").labels.tolist() == labels


def evaluating_config(cache: Path, out: Path) -> Any:
    return toy.config(cache, out, head="logistic", folds=2, precision="float32")


def sha256(cache: FeatureCache) -> str:
    return hashlib.sha256(np.ascontiguousarray(cache.features).tobytes()).hexdigest()
