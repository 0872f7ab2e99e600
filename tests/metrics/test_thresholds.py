"""Thresholds have the best F1 that scikit-learn finds, and only labels that are counted matter."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

from pipeline.metrics import multilabel
from pipeline.metrics.thresholds import best_thresholds


def draw(seed: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """(60, 5) logits with ties where there are few levels, and labels of which some aren't counted."""
    rng = np.random.default_rng(seed)
    logits = rng.integers(-levels, levels + 1, (60, 5)) * 4 / levels
    labels = (logits + rng.normal(0, 3, logits.shape) > 1).astype(np.int8)
    labels[rng.random(labels.shape) < 0.1] = -1
    return logits.astype(np.float32), labels


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("levels", [3, 1000])
def test_no_threshold_has_a_higher_f1(seed: int, levels: int) -> None:
    logits, labels = draw(seed, levels)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    for k, threshold in enumerate(best_thresholds(logits, labels)):
        counted = labels[:, k] >= 0
        truth, scores = labels[counted, k], probabilities[counted, k]
        precision, recall, _ = precision_recall_curve(truth, scores)
        best = np.nanmax(2 * precision * recall / np.maximum(precision + recall, 1e-12))
        assert f1_score(truth, scores >= threshold) == pytest.approx(best)
        assert 0 < threshold < 1
        assert abs(scores - threshold).min() > 1e-9  # between two probabilities, none of which may round over


def test_a_class_without_images_has_no_threshold() -> None:
    logits, labels = draw(0, 1000)
    labels[:, 1], labels[:, 3] = 0, -1
    assert np.isnan(best_thresholds(logits, labels)).tolist() == [False, True, False, True, False]


def test_images_and_classes_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = draw(1, 1000)
    whole = best_thresholds(logits, labels)
    monkeypatch.setattr(multilabel, "CHUNK", 100)
    np.testing.assert_array_equal(best_thresholds(logits, labels), whole)
