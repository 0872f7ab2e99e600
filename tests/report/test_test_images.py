"""What a report says of test images: against scikit-learn, and against loops over what evaluate.py kept."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, confusion_matrix
from support import toy
from support.evaluating import CLASSES, copy_of, head, predictions, settings, two_heads
from support.reporting import Rows, page_of, section, text_of

from pipeline.evaluation.scored import Predictions
from pipeline.evaluation.stage import evaluate
from pipeline.report.calibration import bins, cases
from pipeline.report.kept import read_kept
from pipeline.training.stage import train


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads with one label to an image, both evaluated."""
    folder = two_heads(tmp_path_factory.mktemp("made"))
    evaluate(settings(folder / "ten", folder / "linear", out=str(folder / "comparison.json")))
    return folder


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two heads whose images may have several labels, both evaluated."""
    folder = tmp_path_factory.mktemp("several")
    cache = toy.write_multilabel_cache(folder / "cache")
    toy.write_multilabel_cache(folder / "cache", split="test")
    for name in ("gap", "gmp"):
        settings_of = {"head": name, "hidden": (512,), "crops": "full", "precision": "float32"}
        train(toy.config(cache, folder / name, **settings_of))
    evaluate(settings(folder / "gap", folder / "gmp", out=str(folder / "comparison.json")))
    return folder


def shown(page: str, folder: Path) -> Path:
    """The run that a page's test images are of."""
    found = re.search(r"All that follows is about (\S+) on", text_of(section(page, "test")))
    assert found
    return folder / found[1]


def figures(cells: list[str]) -> list[float]:
    return [float(cell.replace("−", "-").replace(",", "")) for cell in cells]


def test_the_confusion_matrix_and_the_worst_pairs_are_scikit_learns(made: Path) -> None:
    page = page_of(made)
    kept = predictions(shown(page, made))
    matrix = confusion_matrix(kept.labels, kept.logits.argmax(1), labels=range(6))
    rows = Rows(section(page, "confusion")).rows
    assert [row[1:] for row in rows[1:7]] == [[str(n or "") for n in line] for line in matrix]
    assert [row[0] for row in rows[1:7]] == rows[0][1:] == list(CLASSES)
    wrong = matrix - np.diag(np.diag(matrix))
    assert [int(row[2]) for row in rows[8:]] == sorted(wrong[wrong > 0].tolist(), reverse=True)
    for label, prediction, count, share in rows[8:]:
        i, j = CLASSES.index(label), CLASSES.index(prediction)
        assert int(count) == wrong[i, j]
        assert float(share) == pytest.approx(100 * wrong[i, j] / matrix[i].sum(), abs=0.06)


def test_classes_are_listed_with_their_accuracy_the_worst_first(made: Path) -> None:
    page = page_of(made)
    run = shown(page, made)
    by_class = json.loads((run / "eval/metrics.json").read_text())["per_class"]
    kept, rows = predictions(run), Rows(section(page, "classes")).rows[1:]
    scores = [float(row[3]) for row in rows]
    assert scores == sorted(scores)
    assert {row[0]: float(row[3]) for row in rows} == {k: round(v, 2) for k, v in by_class.items()}
    for row in rows:
        own = kept.labels == CLASSES.index(row[0])
        assert int(row[1]) == own.sum()
        wrong = kept.logits.argmax(1)[own & ~kept.correct]
        name, _, count = row[4].partition(": ")
        assert int(count) == np.bincount(wrong).max() == (wrong == CLASSES.index(name)).sum()


def test_classes_of_images_with_several_labels_have_scikit_learns_average_precision(several: Path) -> None:
    page = page_of(several)
    kept = predictions(shown(page, several))
    for name, present, _, value in Rows(section(page, "classes")).rows[1:]:
        k = toy.CLASSES.index(name)
        counted = kept.labels[:, k] >= 0
        wanted = average_precision_score(kept.labels[counted, k], kept.logits[counted, k])
        assert float(value) == pytest.approx(100 * wanted, abs=0.006)
        assert int(present) == (kept.labels[:, k] == 1).sum()
    assert 'id="confusion"' not in page
    assert "mAP" in text_of(section(page, "answer"))


def test_test_differences_are_those_of_the_comparison_and_of_a_plain_bootstrap(
    made: Path, several: Path
) -> None:
    for folder in (made, several):
        page = page_of(folder)
        first = shown(page, folder)
        compared = json.loads((folder / "comparison.json").read_text())["runs"]
        score = {Path(run["run"]).name: run["score"] for run in compared}
        last = Rows(section(page, "differences")).rows[-1]
        found = figures(re.split(r"[\[\], ]+", last[2].strip("]")))
        assert found[0] == pytest.approx(score[last[0]] - score[first.name], abs=0.006)
        sign = -1 if compared[0]["run"] == str(folder / last[0]) else 1
        ends = sorted(sign * compared[1][end] for end in ("low", "high"))
        assert found[1:] == pytest.approx(ends, abs=1.5)  # other draws of the same images


def test_calibration_bins_are_those_of_a_loop(made: Path, several: Path) -> None:
    for run in (made / "ten", several / "gap"):
        kept = read_kept(run)
        wanted = loop(kept)
        found = bins(*cases(kept))
        assert len(found) >= 3
        assert [one.cases for one in found] == [len(cases) for cases in wanted]
        for one, own in zip(found, wanted, strict=True):
            confidence, right = np.mean(own, axis=0)
            assert one.confidence == pytest.approx(100 * confidence)
            assert one.accuracy == pytest.approx(100 * right)


def loop(kept: Predictions) -> list[list[tuple[float, bool]]]:
    """The probabilities and outcomes of each of 15 bins that has some."""
    found: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for logits, label in zip(kept.logits.astype(float), kept.labels, strict=True):
        if kept.multi_label:
            pairs = [
                (1 / (1 + np.exp(-x)), one == 1) for x, one in zip(logits, label, strict=True) if one >= 0
            ]
        else:
            shares = np.exp(logits) / np.exp(logits).sum()
            pairs = [(shares.max(), logits.argmax() == label)]
        for probability, right in pairs:
            found[min(int(15 * probability), 14)].append((probability, right))
    return [own for own in found if own]


def test_a_run_without_an_evaluation_is_passed_over_and_that_is_said(made: Path, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(made, tmp_path / "runs"))
    best = shown(page_of(runs), runs)
    shutil.rmtree(best / "eval")
    page = page_of(runs)
    other = shown(page, runs)
    assert other != best
    assert "Of the runs that were evaluated it has the highest" in section(page, "test")
    shutil.rmtree(other / "eval")
    page = page_of(runs)
    assert "None of these runs was scored on the test split" in section(page, "test")
    assert not re.search('id="(classes|confusion|calibration)"', page)


@pytest.mark.parametrize("damage", ["cut", "labels", "nan", "classes", "pickle", "compressed"])
def test_damaged_predictions_are_named_and_passed_over(made: Path, tmp_path: Path, damage: str) -> None:
    run = copy_of(made / "ten", tmp_path)
    path = run / "eval/predictions.npz"
    with np.load(path) as file:
        arrays = dict(file)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-300])
    elif damage == "compressed":
        np.savez_compressed(path, **arrays)
    else:
        wrong = {
            "labels": {"labels": arrays["labels"] + 6},
            "nan": {"logits": arrays["logits"] * np.nan},
            "classes": {"classes": arrays["classes"][1:]},
            "pickle": {"classes": np.array(["a", None], object)},
        }
        np.savez(path, **{**arrays, **wrong[damage]})
    told = text_of(section(page_of(run), "test"))
    assert re.search(r"copy/eval/predictions\.npz: can't be read \(.*\); evaluate\.py makes it again", told)
    assert "None of these runs was scored on the test split" in told


def test_runs_on_other_test_images_are_named_and_not_compared(made: Path, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(made, tmp_path / "runs"))
    page = page_of(runs)
    other = next(run for run in (runs / "ten", runs / "linear") if run != shown(page, runs))
    with np.load(other / "eval/predictions.npz") as file:
        arrays = dict(file)
    np.savez(other / "eval/predictions.npz", **{**arrays, "image_digests": arrays["image_digests"] ^ 1})
    told = text_of(section(page_of(runs), "differences"))
    assert f"{other}: can't be compared with {shown(page, runs)}, which was scored on other images" in told


def test_a_head_alone_has_nothing_to_be_compared_with(made: Path, tmp_path: Path) -> None:
    run = head(made / "cache", tmp_path / "alone", head="knn")
    page = page_of(run)
    assert "It is the only run on these images" in section(page, "answer")
    assert "there is no other run on the same images" in section(page, "differences")
