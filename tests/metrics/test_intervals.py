"""Intervals of validation scores, against scipy, scikit-learn and loops over what was drawn."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score

from pipeline.metrics import intervals
from pipeline.metrics.bootstrap import draws, top1_interval
from pipeline.metrics.intervals import DRAWS, FEWEST_DRAWS, middle, scores_on_draws, wilson


@pytest.mark.parametrize(
    ("right", "images"), [(21, 24), (0, 5), (5, 5), (1, 1), (700, 1000), (99_000, 100_000)]
)
def test_wilson_s_interval_is_scipy_s(right: int, images: int) -> None:
    expected = binomtest(right, images).proportion_ci(0.95, method="wilson")
    assert wilson(100 * right / images, images) == pytest.approx((100 * expected.low, 100 * expected.high))


def test_draws_give_the_top_1_of_the_images_that_were_drawn() -> None:
    right = np.random.default_rng(0).random((3, 40)) < 0.7
    found = scores_on_draws(right, np.zeros(40, np.int64))
    weights = np.concatenate([*draws(40, DRAWS, np.random.default_rng(0))], axis=1)
    assert found.shape == (3, DRAWS)
    for m, r in ((0, 0), (1, 500), (2, 999)):
        drawn = np.repeat(right[m], weights[:, r])
        assert found[m, r] == pytest.approx(100 * drawn.mean(), abs=1e-4)


def test_a_difference_on_the_same_draws_has_the_paired_bootstrap_s_interval() -> None:
    """Two heads that are right on nearly the same images: alone, each is far less sure."""
    rng = np.random.default_rng(1)
    one = rng.random(400) < 0.7
    other = one ^ (rng.random(400) < 0.05)
    a_R, b_R = scores_on_draws(np.stack([one, other]), np.zeros(400, np.int64))
    paired, alone = middle(b_R - a_R), middle(a_R)
    expected = top1_interval(one, other, resamples=100_000)
    assert paired == pytest.approx((expected.low, expected.high), abs=0.3)
    assert alone[1] - alone[0] > 1.8 * (paired[1] - paired[0])


def test_draws_give_the_map_of_the_images_that_were_drawn() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random((30, 3)) < 0.4).astype(np.int8)
    logits = rng.normal(size=(2, 30, 3)) + labels
    found = scores_on_draws(logits, labels)
    weights = np.concatenate([*draws(30, DRAWS, np.random.default_rng(0))], axis=1)
    for m, r in ((0, 0), (1, 999)):
        rows = np.repeat(np.arange(30), weights[:, r])
        classes = [average_precision_score(labels[rows, k], logits[m, rows, k]) for k in range(3)]
        assert found[m, r] == pytest.approx(100 * np.mean(classes), abs=1e-3)


def test_every_call_has_the_same_draws_and_many_images_have_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    right, labels = np.random.default_rng(0).random((2, 50)) < 0.5, np.zeros(50, np.int64)
    np.testing.assert_array_equal(scores_on_draws(right[1:], labels)[0], scores_on_draws(right, labels)[1])
    for budget, count in ((50 * 300, 300), (50, FEWEST_DRAWS)):
        monkeypatch.setattr(intervals, "DRAWN", budget)
        assert scores_on_draws(right, labels).shape == (2, count)
