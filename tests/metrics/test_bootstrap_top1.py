"""Top-1 intervals against a bootstrap that draws indices in a loop, and against their own algebra."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.metrics import bootstrap
from pipeline.metrics.bootstrap import Interval, top1_interval


def answers(seeds: int, images: int, share: float, seed: int) -> NDArray[np.bool_]:
    """Right and wrong answers; images differ in difficulty, so that answers of two runs go together."""
    difficulty = np.random.default_rng(99).uniform(-0.3, 0.3, images)
    return np.random.default_rng(seed).random((seeds, images)) < share + difficulty


def naive_interval(a_SN: NDArray[np.bool_], b_SN: NDArray[np.bool_], resamples: int, seed: int) -> Interval:
    """Draw the indices of images, look up both runs' answers, average."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        drawn = rng.integers(a_SN.shape[1], size=a_SN.shape[1])
        found.append(100 * (b_SN[:, drawn].mean() - a_SN[:, drawn].mean()))
    return Interval(100 * (b_SN.mean() - a_SN.mean()), *np.quantile(found, [0.025, 0.975]))


@pytest.mark.parametrize(("seeds_a", "seeds_b"), [(1, 1), (5, 5), (2, 3)])
def test_interval_equals_a_loop_that_draws_images(seeds_a: int, seeds_b: int) -> None:
    a, b = answers(seeds_a, 400, 0.6, 1), answers(seeds_b, 400, 0.65, 2)
    found, naive = top1_interval(a, b, resamples=20_000), naive_interval(a, b, 4000, 3)
    # With 4,000 resamples the naive ends have a standard error of 2 % of the half width.
    tolerance = 0.1 * (naive.high - naive.low) / 2
    assert found.difference == pytest.approx(naive.difference)
    assert found.low == pytest.approx(naive.low, abs=tolerance)
    assert found.high == pytest.approx(naive.high, abs=tolerance)


def test_interval_covers_the_true_difference_about_as_often_as_it_says() -> None:
    rng, covered = np.random.default_rng(5), 0
    for trial in range(300):
        a, b = rng.random(500) < 0.7, rng.random(500) < 0.75
        found = top1_interval(a, b, resamples=1000, seed=trial)
        covered += found.low <= 5 <= found.high
    assert 270 <= covered <= 297  # 285 expected, 3.8 deviation


def test_pairing_makes_the_interval_narrower_than_two_independent_ones() -> None:
    rng = np.random.default_rng(6)
    a = rng.random(2000) < 0.8
    b = a ^ (rng.random(2000) < 0.02)  # the same answers but for 2 %
    paired, unpaired = top1_interval(a, b), top1_interval(a, rng.permutation(b))
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_exchanging_the_runs_mirrors_the_difference() -> None:
    a, b = answers(2, 300, 0.5, 1), answers(2, 300, 0.6, 2)
    assert top1_interval(b, a).difference == -top1_interval(a, b).difference
    assert top1_interval(b, a).low == pytest.approx(-top1_interval(a, b).high, abs=0.3)


def test_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    a, b = answers(1, 300, 0.5, 1), answers(1, 300, 0.6, 2)
    assert top1_interval(a, b, seed=3) == top1_interval(a, b, seed=3)
    assert len({top1_interval(a, b, resamples=100, seed=seed) for seed in range(5)}) > 1


def test_drawing_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = answers(3, 300, 0.5, 1), answers(3, 300, 0.6, 2)
    whole = top1_interval(a, b, resamples=1000)
    monkeypatch.setattr(bootstrap, "CHUNK", 70)  # ten resamples at a time
    assert top1_interval(a, b, resamples=1000) == whole


def test_equal_runs_differ_by_exactly_nothing() -> None:
    a = answers(4, 300, 0.5, 1)
    assert top1_interval(a, a) == Interval(0, 0, 0)
    assert top1_interval(a[0], a[:1]) == Interval(0, 0, 0)


def test_a_difference_on_every_image_has_no_width() -> None:
    assert top1_interval(np.zeros(50, bool), np.ones(50, bool)) == pytest.approx((100, 100, 100))


def test_other_images_or_none_are_refused() -> None:
    with pytest.raises(ValueError, match="same images"):
        top1_interval(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="same images"):
        top1_interval(np.ones(0, bool), np.ones(0, bool))


def test_an_interval_prints_its_signs() -> None:
    assert str(Interval(1.234, -0.5, 3)) == "+1.23 [-0.50, +3.00]"
