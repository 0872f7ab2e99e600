"""Multi-label metrics against scikit-learn, torchmetrics, loops over ranked lists, and figures by hand."""

import json
import tracemalloc

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from support.ranked import Data, draw
from torchmetrics.functional.classification import multilabel_average_precision

from pipeline.errors import RunError
from pipeline.metrics import multilabel
from pipeline.metrics.bootstrap import mean_ap_interval
from pipeline.metrics.multilabel import (
    UNITS,
    average_precision,
    average_precision_11_point,
    mean_average_precision,
    precision_recall,
    score,
)


@pytest.fixture(params=range(8))
def data(request: pytest.FixtureRequest) -> Data:
    return draw(request.param, ties=bool(request.param & 1), masked=bool(request.param & 2))


def voc07(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The definition, rank by rank; sorted() is stable."""
    present, hits, seen, curve = (labels == 1).sum(), 0, 0, []
    for row in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if labels[row] != -1:
            seen, hits = seen + 1, hits + (labels[row] == 1)
            curve.append((hits, hits / seen))
    return sum(max((p for h, p in curve if 10 * h >= t * present), default=0) for t in range(11)) / 11


def test_average_precision_equals_scikit_learns_with_ties_and_without_what_is_not_counted(data: Data) -> None:
    scores, labels = data
    found = average_precision(scores, labels)
    assert found.dtype == np.float64
    for k in range(labels.shape[1]):
        mine = labels[:, k] >= 0
        expected = average_precision_score(labels[mine, k], scores[mine, k])
        assert found[k] == pytest.approx(expected, abs=1e-12)
    assert mean_average_precision(scores, labels) == pytest.approx(found.mean())


def test_average_precision_equals_torchmetrics_of_probabilities(data: Data) -> None:
    scores, labels = data
    probabilities = torch.from_numpy(scores).double().sigmoid()
    expected = multilabel_average_precision(
        probabilities, torch.from_numpy(labels).long(), labels.shape[1], "none", ignore_index=-1
    )
    np.testing.assert_allclose(average_precision(scores, labels), expected, atol=1e-6)


def test_scores_that_a_sigmoid_in_float32_makes_equal_stay_apart() -> None:
    scores, labels = np.array([[30.0], [40.0], [50.0]], np.float32), np.array([[0], [0], [1]], np.int8)
    assert average_precision(scores, labels).tolist() == [1.0]


def test_average_precision_does_not_depend_on_the_order_of_rows(data: Data) -> None:
    scores, labels = data
    shuffled = np.random.default_rng(1).permutation(len(labels))
    np.testing.assert_allclose(
        average_precision(scores[shuffled], labels[shuffled]), average_precision(scores, labels), atol=1e-12
    )


def test_several_heads_at_once_are_those_heads_one_by_one() -> None:
    heads, labels = (
        [draw(seed, ties=True, masked=True)[0] for seed in range(5)],
        draw(0, ties=True, masked=True)[1],
    )
    found = average_precision(np.stack(heads), labels)
    assert found.tolist() == [average_precision(head, labels).tolist() for head in heads]
    assert mean_average_precision(np.stack(heads), labels).shape == (5,)


def test_a_class_without_images_is_nan_and_left_out_of_every_mean() -> None:
    scores, labels = draw(3, ties=False, masked=False)
    labels[:, 2] = 0
    labels[0, 2] = -1  # what is not counted does not make a class
    scores[:50, 2] = 9  # predicted often, wrongly
    others = np.delete(np.arange(7), 2)
    assert np.isnan(average_precision(scores, labels)[2])
    assert np.isnan(average_precision_11_point(scores, labels)[2])
    assert mean_average_precision(scores, labels) == pytest.approx(
        average_precision(scores[:, others], labels[:, others]).mean()
    )
    found = precision_recall(scores > 0, labels)
    without = precision_recall(scores[:, others] > 0, labels[:, others])
    assert (found.cp, found.cr, found.cf1, found.or_) == (without.cp, without.cr, without.cf1, without.or_)
    assert found.op < without.op  # the wrong predictions count among all labels
    assert np.isnan(mean_average_precision(scores, np.zeros_like(labels)))


def test_a_score_that_is_nan_is_the_lowest() -> None:
    scores, labels = np.array([[np.nan], [1.0], [-5.0], [np.nan]]), np.array([[1], [0], [1], [1]])
    assert average_precision(scores, labels)[0] == pytest.approx((1 / 2 + 3 / 4 + 3 / 4) / 3)


def test_eleven_points_equal_a_loop_over_the_ranked_list(data: Data) -> None:
    scores, labels = data
    expected = [voc07(scores[:, k], labels[:, k]) for k in range(labels.shape[1])]
    np.testing.assert_allclose(average_precision_11_point(scores, labels), expected, atol=1e-12)


def test_eleven_points_by_hand() -> None:
    # Present at ranks 1, 3 and 6 of 6: precision 1 up to recall 1/3 (4 points), 2/3 up to 2/3 (3 points),
    # 1/2 up to 1 (4 points).
    labels, scores = np.array([[1], [0], [1], [0], [0], [1]]), np.arange(6, 0, -1.0)[:, None]
    assert average_precision_11_point(scores, labels)[0] == pytest.approx((4 * 1 + 3 * 2 / 3 + 4 / 2) / 11)
    assert average_precision(scores, labels)[0] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)


def test_recall_of_three_in_ten_reaches_the_point_at_three_tenths() -> None:
    # 3 of 10 first, then 10 absent, then the other 7: precision 1 at the points 0, .1, .2 and .3.
    labels = np.array([1] * 3 + [0] * 10 + [1] * 7)[:, None]
    found = average_precision_11_point(np.arange(20, 0, -1.0)[:, None], labels)[0]
    assert found == pytest.approx((4 + 7 * 10 / 20) / 11)


def test_equal_scores_are_ranked_by_row_in_eleven_points_and_count_together_otherwise() -> None:
    scores = np.zeros((4, 2))
    labels = np.array([[1, 0], [0, 0], [0, 0], [0, 1]])
    assert average_precision_11_point(scores, labels).tolist() == pytest.approx([1, 1 / 4])
    assert average_precision(scores, labels).tolist() == pytest.approx([1 / 4, 1 / 4])


def test_score_is_json_in_per_cent_with_every_unit_documented(data: Data) -> None:
    scores, labels = data
    found = score(scores, labels, tuple("abcdefg"))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == set(UNITS)
    assert found["map"] == pytest.approx(100 * mean_average_precision(scores, labels))
    assert found["map_11_point"] == pytest.approx(100 * average_precision_11_point(scores, labels).mean())
    assert list(found["at_half"]) == list(found["top3"]) == ["cp", "cr", "cf1", "op", "or", "of1"]
    assert found["at_half"]["of1"] == pytest.approx(100 * precision_recall(scores > 0, labels).of1)
    assert found["present"]["b"] == (labels[:, 1] == 1).sum()
    assert found["not_counted"] == (labels == -1).sum()


def test_logits_that_are_not_finite_and_images_without_labels_are_refused() -> None:
    logits, labels = np.zeros((3, 2), np.float32), np.ones((3, 2), np.int8)
    with pytest.raises(RunError, match="no test image has one of the classes"):
        score(logits, 0 * labels, ("a", "b"))
    logits[1, 0] = np.inf
    with pytest.raises(ValueError, match="not finite"):
        score(logits, labels, ("a", "b"))
    with pytest.raises(ValueError, match="for 1, 0 and -1"):
        score(logits, labels * 2, ("a", "b"))
    with pytest.raises(ValueError, match=r"\(3, 2\), 3 classes"):
        score(logits, labels, ("a", "b", "c"))
    with pytest.raises(ValueError, match="of the same images"):
        average_precision(logits, labels[:2])


@pytest.mark.parametrize("chunk", [1, 450, 1000])
def test_scores_do_not_depend_on_how_many_are_ranked_at_once(
    data: Data, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores, labels = data
    names = tuple(map(str, range(labels.shape[1])))
    whole, interval = score(scores, labels, names), mean_ap_interval(scores, -scores, labels, resamples=100)
    heads = average_precision(np.stack([scores, -scores]), labels)
    monkeypatch.setattr(multilabel, "CHUNK", chunk)
    assert score(scores, labels, names) == whole
    assert mean_ap_interval(scores, -scores, labels, resamples=100) == interval
    np.testing.assert_array_equal(average_precision(np.stack([scores, -scores]), labels), heads)


def test_ranking_heads_together_takes_no_more_than_ranking_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As validation does after each epoch: 8 heads, 200 classes."""
    scores, labels = draw(0, 2_000, 200, ties=False, masked=True)
    heads = np.broadcast_to(scores, (8, *scores.shape))
    monkeypatch.setattr(multilabel, "CHUNK", 1 << 14)
    tracemalloc.start()
    found = average_precision(heads, labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (8, 200)
    assert peak < 100 * (1 << 14)  # at once it would be 150 MB
