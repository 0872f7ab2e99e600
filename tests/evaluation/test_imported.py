"""Heads on features that were made elsewhere: trained and scored as on any other, and no photos of theirs."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from cache.__main__ import main
from pipeline import EvaluateConfig, SweepConfig, evaluate, train_heads
from pipeline.errors import ConfigError, RunError, StaleCacheError
from pipeline.trunks import trunk_of_identity


def bring(folder: Path, arrays: np.ndarray, labels: np.ndarray, cut: int, *words: str) -> str:
    """A cache of both splits."""
    for split, rows in (("train", slice(cut)), ("test", slice(cut, None))):
        np.savez(folder / "a.npz", features=arrays[rows], labels=labels[rows])
        assert (
            main(["import", str(folder / "a.npz"), "--split", split, "--cache", str(folder / "c"), *words])
            == 0
        )
    return str(folder / "c")


def test_a_head_on_imported_vectors_scores_as_scikit_learn_s_does(tmp_path: Path) -> None:
    pixels, digits = (np.asarray(part) for part in load_digits(return_X_y=True))
    rows = np.random.default_rng(0).permutation(len(digits))
    pixels, digits = pixels[rows].astype(np.float32), digits[rows]
    cache = bring(tmp_path, pixels, digits, 1300, "--val-rows", "100")
    run = train_heads(SweepConfig(cache=cache, head=("logistic",), out=str(tmp_path / "run")))
    evaluate(EvaluateConfig(run=(str(run),)))
    predicted = np.load(run / "eval" / "predictions.npz")["logits"].argmax(1)
    reference = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(
        pixels[:1300], digits[:1300]
    )
    assert (predicted == reference.predict(pixels[1300:])).mean() > 0.97
    assert (predicted == digits[1300:]).mean() > 0.95


def test_no_trunk_and_no_images_are_known_of_imported_maps(tmp_path: Path) -> None:
    maps = np.random.default_rng(0).standard_normal((90, 4, 5, 5)).astype(np.float32)
    cache = bring(tmp_path, maps, np.arange(90) % 2, 60)
    config = SweepConfig(cache=cache, head=("recurrent-attention",), epochs=1, out=str(tmp_path / "run"))
    run = train_heads(config)
    with pytest.raises(RunError, match=r"test\.h5: was imported, without the images to show"):
        evaluate(EvaluateConfig(run=(str(run),), show_regions=2))
    with pytest.raises(ConfigError, match="no trunk is known that makes them of photos"):
        trunk_of_identity({"imported": {"made_by": "x"}})


def test_a_test_split_that_something_else_made_is_refused(tmp_path: Path) -> None:
    vectors, labels = np.random.default_rng(0).standard_normal((90, 6)), np.arange(90) % 2
    cache = bring(tmp_path, vectors, labels, 60, "--made-by", "one net")
    run = train_heads(SweepConfig(cache=cache, head=("logistic",), out=str(tmp_path / "run")))
    (tmp_path / "c" / "test.h5").unlink()
    words = ["--split", "test", "--cache", cache, "--made-by", "another net"]
    assert main(["import", str(tmp_path / "a.npz"), *words]) == 0
    with pytest.raises(StaleCacheError, match=r"imported\.made_by: \"one net\" → \"another net\""):
        evaluate(EvaluateConfig(run=(str(run),)))
