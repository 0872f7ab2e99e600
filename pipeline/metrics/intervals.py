"""How sure validation scores are: intervals over the images, and draws of them that all heads have in common.

A top-1 has Wilson's interval, which is none too sure where few images are, or all of them are right. An mAP
is no share of images: its interval holds 95 % of its values on images drawn with replacement. A difference of
two scores has such an interval as well, of the scores on the same draws: an image's difficulty cancels.

Shapes: M heads, N images, K classes, R draws.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.bootstrap import ENDS, draws, mean_ap_draws

DRAWS = 1000
FEWEST_DRAWS = 200
"""Where more would take long: of 95 %, they are sure to a tenth of the interval."""
DRAWN = 1 << 27
"""Images, or labels of images, that are drawn in all; fewer draws stay below it where they can."""
QUANTILE = 1.959963984540054
"""Of the normal distribution at 97.5 %."""


def wilson(top1: float, images: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a top-1 in per cent, (low, high).

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 1927.
    """
    share, z2 = top1 / 100, QUANTILE**2 / images
    half = np.sqrt(z2 * share * (1 - share) + z2 * z2 / 4)
    low, high = ((share + z2 / 2 + side) / (1 + z2) for side in (-half, half))
    return 100 * max(0.0, float(low)), 100 * min(1.0, float(high))


def middle(values_R: NDArray[np.floating]) -> tuple[float, float]:
    """The interval that holds the middle 95 % of scores on draws, without those that are NaN."""
    low, high = np.nanquantile(values_R, ENDS).tolist()
    return low, high


def scores_on_draws(answers: NDArray[Any], labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Scores in per cent on R draws of N images, (M, R): the same draws in every call with as many images.

    Args:
        answers: whether each head is right, (M, N); where images have several labels its scores, (M, N, K).
        labels: (N,), or (N, K) with 1 present, 0 absent, -1 not counted.
    """
    count = int(np.clip(DRAWN // max(1, answers[0].size), FEWEST_DRAWS, DRAWS))
    weights = draws(len(labels), count, np.random.default_rng(0))
    if labels.ndim == 2:
        return (100 * mean_ap_draws(answers, labels, weights)).astype(np.float32)
    right = answers.astype(np.float32)
    found = [right @ weights_NR.astype(np.float32) for weights_NR in weights]
    return np.concatenate(found, axis=1) * np.float32(100 / len(labels))
