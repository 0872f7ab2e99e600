"""Metrics against scikit-learn, torchmetrics, and numbers worked out by hand."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    log_loss,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import binary_calibration_error, multiclass_confusion_matrix

from pipeline.errors import RunError
from pipeline.metrics import single_label
from pipeline.metrics.single_label import UNITS, calibration_error, ranks, score

Data = tuple[NDArray[np.float32], NDArray[np.int64], tuple[str, ...]]


@pytest.fixture(params=[2, 5, 6, 10, 40])
def data(request: pytest.FixtureRequest) -> Data:
    """Scores that are right more often than not, confident now and then."""
    k = request.param
    rng = np.random.default_rng(k)
    labels = rng.integers(k, size=600)
    logits = rng.normal(size=(600, k)) + 2 * np.eye(k)[labels]
    logits *= rng.uniform(0.2, 5, (600, 1))
    return logits.astype(np.float32), labels, tuple(f"c{i}" for i in range(k))


def dense(found: dict[str, Any]) -> NDArray[np.int64]:
    """The whole confusion matrix."""
    matrix = np.zeros((len(found["per_class"]),) * 2, np.int64)
    cells = found["confusion"]
    matrix[cells["label"], cells["prediction"]] = cells["count"]
    return matrix


def softmax(logits_NK: NDArray[np.floating]) -> NDArray[np.float64]:
    exp = np.exp(logits_NK.astype(np.float64) - logits_NK.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


def naive_ece(logits_NK: NDArray[np.floating], labels_N: NDArray[np.int64]) -> float:
    """15 bins [low, high), the last one closed, in a loop."""
    probabilities = softmax(logits_NK)
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(15)]
    for row, label in zip(probabilities, labels_N, strict=True):
        bins[min(int(row.max() * 15), 14)].append((row.max(), row.argmax() == label))
    gaps = [abs(sum(c for c, _ in b) - sum(right for _, right in b)) for b in bins]
    return 100 * sum(gaps) / len(labels_N)


def test_every_metric_equals_scikit_learns(data: Data) -> None:
    logits, labels, classes = data
    found, predicted = score(logits, labels, classes), logits.argmax(1)
    every = list(range(len(classes)))
    assert found["images"] == 600
    assert found["top1"] == pytest.approx(100 * accuracy_score(labels, predicted))
    assert found["nll"] == pytest.approx(log_loss(labels, softmax(logits), labels=every), rel=1e-9)
    assert found["mean_class_accuracy"] == pytest.approx(100 * balanced_accuracy_score(labels, predicted))
    assert dense(found).tolist() == confusion_matrix(labels, predicted, labels=every).tolist()
    assert min(found["confusion"]["count"]) > 0
    for i, name in enumerate(classes):
        mine = labels == i
        assert found["per_class"][name] == pytest.approx(100 * accuracy_score(labels[mine], predicted[mine]))


def test_top5_equals_scikit_learns_above_five_classes_and_is_null_below(data: Data) -> None:
    logits, labels, classes = data
    found = score(logits, labels, classes)["top5"]
    if len(classes) <= 5:
        assert found is None
    else:
        every = list(range(len(classes)))
        assert found == pytest.approx(100 * top_k_accuracy_score(labels, logits, k=5, labels=every))


def test_calibration_error_equals_a_loop_over_bins(data: Data) -> None:
    logits, labels, classes = data
    assert score(logits, labels, classes)["ece"] == pytest.approx(naive_ece(logits, labels), rel=1e-6)


def test_calibration_error_and_confusion_equal_torchmetrics(data: Data) -> None:
    logits, labels, classes = data
    found, (confidence, predicted) = score(logits, labels, classes), torch.from_numpy(softmax(logits)).max(1)
    right = torch.from_numpy(labels) == predicted
    below_one = confidence.clamp(max=float(np.nextafter(1, 0)))  # its last bin has no upper end
    expected = binary_calibration_error(below_one, right.long(), n_bins=15).item()
    assert found["ece"] == pytest.approx(100 * expected, rel=1e-12)
    confusion = multiclass_confusion_matrix(predicted, torch.from_numpy(labels), len(classes))
    assert dense(found).tolist() == confusion.tolist()


def test_a_confidence_between_two_bins_belongs_to_the_upper_one() -> None:
    # 1/3 is the lower end of bin 5: with 0.36 in it, |1 - 1/3| and |0 - 0.36| partly cancel.
    confidence, right = np.array([np.linspace(0, 1, 16)[5], 0.36]), np.array([True, False])
    assert calibration_error(confidence, right) == pytest.approx(100 * abs(2 / 3 - 0.36) / 2)
    confidence[0] = np.nextafter(confidence[0], 0)
    assert calibration_error(confidence, right) == pytest.approx(100 * (2 / 3 + 0.36) / 2)


def test_calibration_error_by_hand() -> None:
    # Confidences 0.8, 0.8 (one right) and 0.6 (right): |0.5 - 0.8|·2/3 + |1 - 0.6|·1/3
    logits = np.log(np.array([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4]]))
    assert score(logits, np.array([0, 1, 0]), ("a", "b"))["ece"] == pytest.approx(100 / 3)


def test_certain_answers_share_the_last_bin_with_nearly_certain_ones() -> None:
    # One probability rounds to 1 and is wrong, one is 0.95 and right: one bin, mean confidence 0.975.
    logits = np.array([[100.0, 0.0], [np.log(0.95 / 0.05), 0.0]])
    assert score(logits, np.array([1, 0]), ("a", "b"))["ece"] == pytest.approx(47.5)


def test_of_equal_logits_the_lower_class_comes_first() -> None:
    logits, labels = np.zeros((7, 7), np.float32), np.arange(7)
    found = score(logits, labels, tuple("abcdefg"))
    assert ranks(logits, labels).tolist() == list(range(7))
    assert found["top1"] == pytest.approx(100 / 7)
    assert found["top5"] == pytest.approx(500 / 7)
    assert found["per_class"]["a"] == 100.0
    assert dense(found)[:, 0].tolist() == [1] * 7


def test_top1_rank_and_confusion_agree_on_ties() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.integers(3, size=(500, 8)).astype(np.float32), rng.integers(8, size=500)
    found = score(logits, labels, tuple("abcdefgh"))
    assert found["top1"] == pytest.approx(np.trace(dense(found)) / 5)
    order = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    assert found["top5"] == pytest.approx(100 * (order == labels[:, None]).any(1).mean())


def test_a_class_without_images_is_null_and_left_out_of_the_mean() -> None:
    logits = np.eye(3, dtype=np.float32)[[0, 2, 0]]
    found = score(logits, np.array([0, 0, 0]), ("a", "b", "c"))
    assert found["per_class"] == {"a": pytest.approx(200 / 3), "b": None, "c": None}
    assert found["mean_class_accuracy"] == pytest.approx(200 / 3)
    assert found["confusion"] == {"label": [0, 0], "prediction": [0, 2], "count": [2, 1]}


def test_a_single_class_is_always_right() -> None:
    found = score(np.array([[3.0], [-1.0]]), np.array([0, 0]), ("only",))
    assert (found["top1"], found["nll"], found["confusion"]) == (
        100,
        0,
        {"label": [0], "prediction": [0], "count": [2]},
    )
    assert found["ece"] == pytest.approx(0)


def test_likelihood_survives_extreme_logits() -> None:
    found = score(np.array([[3e4, -3e4]], np.float32), np.array([1]), ("a", "b"))
    assert found["nll"] == pytest.approx(6e4)


def test_every_metric_is_json_and_has_its_unit_documented() -> None:
    found = score(np.zeros((2, 3), np.float32), np.array([0, 1]), ("a", "b", "c"))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == set(UNITS)


def test_logits_that_are_not_finite_and_an_empty_test_split_are_refused() -> None:
    logits = np.zeros((3, 2), np.float32)
    logits[1, 0] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        score(logits, np.zeros(3, np.int64), ("a", "b"))
    with pytest.raises(RunError, match="no test images"):
        score(np.zeros((0, 2)), np.zeros(0, np.int64), ("a", "b"))


@pytest.mark.parametrize("labels", [np.array([0, 2]), np.array([-1, 0]), np.array([0])])
def test_labels_that_do_not_fit_the_logits_are_refused(labels: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="for"):
        score(np.zeros((2, 2)), labels, ("a", "b"))


def test_scores_do_not_depend_on_how_many_images_are_looked_at_at_once(
    data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = score(*data)
    monkeypatch.setattr(single_label, "CHUNK", 7 * len(data[2]))
    assert score(*data) == whole


def test_many_classes_take_neither_their_square_nor_the_logits_again() -> None:
    """21,000 classes: their matrix alone would be 3.5 GB, and 2 GB as JSON."""
    rng = np.random.default_rng(0)
    classes = tuple(map(str, range(21_000)))
    labels = rng.integers(len(classes), size=400)
    logits = rng.normal(size=(400, len(classes))).astype(np.float32)
    tracemalloc.start()
    found = score(logits, labels, classes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < logits.nbytes // 2  # of 34 MB; torch's part is not traced
    assert sum(found["confusion"]["count"]) == 400
    assert len(json.dumps(found["confusion"])) < 20_000
