"""Predictions on image files are the logits that evaluate.py scores on the cache of the same images."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from support.evaluating import predictions, settings
from support.predicting import asking, cache_of, head, one_class_each, several_labels

from pipeline import load_run
from pipeline.evaluation.stage import evaluate
from pipeline.heads import HEADS
from pipeline.prediction.stage import predict

RELATIVE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches of photos with one class each, and with several."""
    made = tmp_path_factory.mktemp("equal")
    photos, labelled = one_class_each(made / "photos"), several_labels(made / "labelled")
    for dtype in ("float32", "float16", "bfloat16", "int8"):
        cache_of(f"folder:{photos}", made / dtype, dtype=dtype, views="mirror")
    cache_of(f"csv:{labelled / 'labels.csv'}", made / "several", dtype="float16", label_separator="|")
    return made


def check(run: Path, root: Path) -> None:
    """The same images through predict.py, as files, as an array of pixels decoded by it, and evaluate.py."""
    evaluate(settings(run))
    expected, model = predictions(run), load_run(run, device="cpu")
    files = [root / path for path in expected.paths]
    for batch in (None, 2):
        found = model.predict(files, batch=batch)
        np.testing.assert_allclose(
            found.logits, expected.logits, rtol=RELATIVE, atol=RELATIVE * abs(found.logits).max()
        )
    assert found.classes == tuple(expected.classes.tolist())


@pytest.mark.parametrize("name", HEADS)
def test_every_head_gives_the_logits_of_evaluate(folder: Path, tmp_path: Path, name: str) -> None:
    """From maps in float16, which predict.py has to round in the same way."""
    check(head(folder / "float16", tmp_path / "run", head=name), folder / "photos")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_every_storage_dtype_does(folder: Path, tmp_path: Path, dtype: str) -> None:
    check(head(folder / dtype, tmp_path / "run", head="linear"), folder / "photos")


@pytest.mark.parametrize("crops", ["center", "five", "ten", "ten-image", "full"])
def test_every_choice_of_crops_does(folder: Path, tmp_path: Path, crops: str) -> None:
    """ten-image looks at the map of the mirrored image too."""
    check(head(folder / "float16", tmp_path / "run", crops=crops), folder / "photos")


@pytest.mark.parametrize("name", ["gmp", "knn", "recurrent-attention"])
def test_heads_of_several_labels_do(folder: Path, tmp_path: Path, name: str) -> None:
    check(head(folder / "several", tmp_path / "run", head=name), folder / "labelled")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_the_file_holds_the_softmax_of_these_logits(folder: Path, tmp_path: Path, suffix: str) -> None:
    run = head(folder / "float32", tmp_path / "run")
    evaluate(settings(run))
    expected = predictions(run)
    shares = np.exp(expected.logits.astype(np.float64))
    shares /= shares.sum(1, keepdims=True)
    out = predict(asking(folder / "photos/test", run=run, out=str(tmp_path / f"scores.{suffix}"), show=0))
    assert out is not None
    if suffix == "csv":
        rows = list(csv.DictReader(out.open()))
        found = np.array([[float(row[f"p_{name}"]) for name in expected.classes] for row in rows])
        said = [row["class"] for row in rows]
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        found = np.array([[row["probabilities"][name] for name in expected.classes] for row in rows])
        said = [row["class"] for row in rows]
    assert [row["path"] for row in rows] == [f"{folder}/photos/{path}" for path in expected.paths]
    np.testing.assert_allclose(found, shares, rtol=1e-5)
    assert said == expected.classes[expected.logits.argmax(1)].tolist()
