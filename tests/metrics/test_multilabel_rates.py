"""Precision and recall of several labels per image against scikit-learn, and figures by hand."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support
from support.ranked import draw

from pipeline.metrics.multilabel import precision_recall, score, top_labels


@pytest.mark.parametrize("top", [False, True])
def test_rates_equal_scikit_learns(top: bool) -> None:
    scores, labels = draw(5, ties=False, masked=False)
    predicted = top_labels(scores) if top else scores > 0
    cp, cr, macro_f1, _ = precision_recall_fscore_support(labels, predicted, average="macro")
    op, or_, of1, _ = precision_recall_fscore_support(labels, predicted, average="micro")
    found = precision_recall(predicted, labels)
    assert found == pytest.approx((cp, cr, 2 * cp * cr / (cp + cr), op, or_, of1))
    assert abs(found.cf1 - float(macro_f1)) > 1e-3


def test_rates_without_what_is_not_counted_equal_scikit_learns_class_by_class() -> None:
    scores, labels = draw(6, ties=False, masked=True)
    predicted, counted = scores > 0, labels >= 0
    by_class = [
        precision_recall_fscore_support(
            labels[counted[:, k], k], predicted[counted[:, k], k], average="binary"
        )[:2]
        for k in range(labels.shape[1])
    ]
    found = precision_recall(predicted, labels)
    assert (found.cp, found.cr) == pytest.approx(tuple(np.mean(by_class, axis=0)))
    overall = precision_recall_fscore_support(labels[counted], predicted[counted], average="binary")
    assert (found.op, found.or_, found.of1) == pytest.approx(overall[:3])


def test_rates_by_hand() -> None:
    labels = np.array([[1, 1, 0], [1, 0, 1], [0, 1, -1]])
    predicted = np.array([[1, 0, 0], [1, 0, 0], [1, 0, 1]], bool)
    # Precision 2/3, 0 (never predicted), 0; recall 1, 0, 0; of all: 2 of 3 predicted, 2 of 5 present.
    cp, cr = 2 / 9, 1 / 3
    expected = (cp, cr, 2 * cp * cr / (cp + cr), 2 / 3, 2 / 5, 1 / 2)
    assert precision_recall(predicted, labels) == pytest.approx(expected)
    assert precision_recall(np.zeros((3, 3), bool), labels) == (0, 0, 0, 0, 0, 0)


def test_half_is_not_above_half_and_the_highest_are_exactly_as_many() -> None:
    logits = np.array([[0.0, 1e-6, -1e-6, 5.0], [1.0, 1.0, 1.0, 1.0]], np.float32)
    found = score(logits, np.ones((2, 4), np.int8), tuple("abcd"))
    assert found["at_half"]["or"] == pytest.approx(100 * 6 / 8)
    assert found["top3"]["or"] == pytest.approx(100 * 6 / 8)
    assert top_labels(logits).tolist() == [[True, True, False, True], [True, True, True, False]]
    assert top_labels(logits[:, :2]).all()
