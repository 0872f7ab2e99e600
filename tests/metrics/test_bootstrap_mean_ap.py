"""The interval of a difference in mAP against a loop with scikit-learn over the same draws."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from pipeline.metrics import bootstrap
from pipeline.metrics.bootstrap import Interval, draws, mean_ap_interval
from pipeline.metrics.multilabel import mean_average_precision


def labels_of(images: int = 60, *, masked: bool = True) -> NDArray[np.int8]:
    """Four classes, one of them in two images only: some resamples have none of it."""
    rng = np.random.default_rng(99)
    labels = (rng.random((images, 4)) < (0.5, 0.2, 0.1, 0)).astype(np.int8)
    labels[[3, 7], 3] = 1
    if masked:
        labels[rng.random(labels.shape) < 0.1] = -1
        labels[[3, 7], 3] = 1
    return labels


def scores_of(labels: NDArray[np.int8], seeds: int, signal: float, seed: int) -> NDArray[np.float32]:
    """With ties. Images differ in difficulty, so that scores of two runs go together."""
    shared = np.random.default_rng(98).normal(size=labels.shape)
    noise = np.random.default_rng(seed).normal(size=(seeds, *labels.shape))
    return np.round(signal * labels + shared + 0.5 * noise, 1).astype(np.float32)


def naive_map(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    found = []
    for k in range(labels.shape[1]):
        mine = labels[:, k] >= 0
        if (labels[:, k] == 1).any():
            found.append(average_precision_score(labels[mine, k], scores[mine, k]))
    return float(np.mean(found))


def naive_interval(
    a: NDArray[np.floating], b: NDArray[np.floating], labels: NDArray[np.integer], resamples: int, seed: int
) -> Interval:
    """Draw rows, take them out of scores and labels, rank anew."""
    drawn = np.random.default_rng(seed).integers(len(labels), size=(resamples, len(labels)))

    def difference(rows: NDArray[np.intp]) -> float:
        of_a, of_b = (np.mean([naive_map(s[rows], labels[rows]) for s in side]) for side in (a, b))
        return 100 * float(of_b - of_a)

    ends = np.quantile([difference(rows) for rows in drawn], [0.025, 0.975])
    return Interval(difference(np.arange(len(labels))), *ends)


@pytest.mark.parametrize(("seeds_a", "seeds_b", "masked"), [(1, 1, True), (2, 3, True), (1, 1, False)])
def test_interval_equals_a_loop_with_scikit_learn_on_the_rows_drawn(
    seeds_a: int, seeds_b: int, masked: bool
) -> None:
    labels = labels_of(masked=masked)
    a, b = scores_of(labels, seeds_a, 0.7, 1), scores_of(labels, seeds_b, 1.0, 2)
    found = mean_ap_interval(a, b, labels, resamples=60, seed=4)
    assert found == pytest.approx(naive_interval(a, b, labels, 60, 4), abs=1e-9)
    assert found.low < found.difference < found.high


def test_drawing_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = labels_of()
    a, b = scores_of(labels, 1, 0.7, 1), scores_of(labels, 2, 1.0, 2)
    whole = mean_ap_interval(a, b, labels, resamples=100)
    monkeypatch.setattr(bootstrap, "CHUNK", 7 * 60)
    assert [chunk.shape for chunk in draws(60, 10, np.random.default_rng(0))] == [(60, 7), (60, 3)]
    assert mean_ap_interval(a, b, labels, resamples=100) == whole


def test_every_resample_draws_as_many_images_as_there_are_each_as_likely() -> None:
    weights = np.concatenate(list(draws(50, 40_000, np.random.default_rng(1))), axis=1)
    assert (weights.sum(0) == 50).all()
    assert np.abs(weights.mean(1) - 1).max() < 0.03  # 6 standard errors of 0.005
    assert weights.var() == pytest.approx(1 - 1 / 50, abs=0.01)


def test_equal_runs_differ_by_exactly_nothing() -> None:
    labels = labels_of()
    a = scores_of(labels, 3, 1, 1)
    assert mean_ap_interval(a, a, labels, resamples=50) == Interval(0, 0, 0)
    assert mean_ap_interval(a[0], a[:1], labels, resamples=50) == Interval(0, 0, 0)


def test_exchanging_the_runs_mirrors_the_interval() -> None:
    labels = labels_of()
    a, b = scores_of(labels, 1, 0.7, 1), scores_of(labels, 1, 1.0, 2)
    there, back = (mean_ap_interval(x, y, labels, resamples=200) for x, y in ((a, b), (b, a)))
    assert tuple(there) == pytest.approx((-back.difference, -back.high, -back.low))


def test_nearly_equal_runs_have_a_narrow_interval_though_either_is_unsure() -> None:
    labels = labels_of(400)
    a = scores_of(labels, 1, 1, 1)[0]
    b = a + np.random.default_rng(0).normal(0, 0.05, a.shape).astype(np.float32)
    weak = np.zeros_like(a)  # says the same of every image: its mAP hardly varies, so a's own spread remains
    paired, alone = (mean_ap_interval(x, b, labels, resamples=300) for x in (a, weak))
    assert paired.high - paired.low < 0.3 * (alone.high - alone.low)


def test_other_images_or_no_present_label_are_refused() -> None:
    labels = labels_of()
    a = scores_of(labels, 1, 1, 1)
    with pytest.raises(ValueError, match="same images"):
        mean_ap_interval(a, a[:, :-1], labels)
    with pytest.raises(ValueError, match="no label is present"):
        mean_ap_interval(a, a, np.zeros_like(labels))


def test_the_difference_is_that_of_the_metric() -> None:
    labels = labels_of()
    a, b = scores_of(labels, 2, 0.7, 1), scores_of(labels, 3, 1.0, 2)
    expected = mean_average_precision(b, labels).mean() - mean_average_precision(a, labels).mean()
    assert mean_ap_interval(a, b, labels, resamples=10).difference == pytest.approx(100 * expected)
