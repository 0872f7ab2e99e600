"""Confident learning: the issues and the order that cleanlab finds on the same probabilities."""

import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.metrics.label_quality import label_quality

cleanlab = pytest.importorskip("cleanlab", reason="cleanlab, which is the reference, isn't installed")
from cleanlab import filter as single  # noqa: E402
from cleanlab import multilabel_classification as several  # noqa: E402
from cleanlab.rank import get_self_confidence_for_each_label  # noqa: E402


def draw(seed: int, images: int, classes: int, wrong: float) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities that go with the labels; a share of the labels is drawn anew. Classes differ in size and
    in how well they are known."""
    rng = np.random.default_rng(seed)
    true = rng.choice(classes, images, p=rng.dirichlet(np.full(classes, 2.0)))
    true[:classes] = np.arange(classes)
    logits = rng.normal(size=(images, classes)) * rng.uniform(0.5, 2, classes)
    logits[np.arange(images), true] += rng.uniform(0, 4, classes)[true]
    odds = np.exp(logits)
    is_wrong = rng.random(images) < wrong
    is_wrong[:classes] = False  # cleanlab wants each class
    labels = np.where(is_wrong, rng.integers(classes, size=images), true)
    return odds / odds.sum(1, keepdims=True), labels


def ranked(probabilities: NDArray[Any], labels: NDArray[Any]) -> list[int]:
    """The images with issues, the worst first."""
    found = label_quality(probabilities, labels)
    return found.order[: found.is_issue.sum()].tolist()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("images", "classes", "wrong"), [(300, 2, 0.1), (2000, 10, 0.05), (500, 40, 0.3)])
def test_one_label_has_cleanlab_s_issues_in_its_order(
    seed: int, images: int, classes: int, wrong: float
) -> None:
    probabilities, labels = draw(seed, images, classes, wrong)
    theirs = single.find_label_issues(
        labels,
        probabilities,
        return_indices_ranked_by="self_confidence",
        filter_by="prune_by_noise_rate",
        n_jobs=1,
    )
    assert ranked(probabilities, labels) == theirs.tolist()
    assert images > len(theirs) > 0
    scores = get_self_confidence_for_each_label(labels, probabilities)
    np.testing.assert_allclose(label_quality(probabilities, labels).score, scores, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_several_labels_have_cleanlab_s_issues_in_its_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random((400, 5)) < rng.uniform(0.1, 0.6, 5)).astype(np.int8)
    logits = rng.normal(size=labels.shape) + rng.uniform(1, 6, 5) * (labels - 0.5)
    probabilities = 1 / (1 + np.exp(-logits))
    labels = np.where(rng.random(labels.shape) < 0.04, 1 - labels, labels)
    lists = [np.flatnonzero(row).tolist() for row in labels]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = several.filter.find_label_issues(
            lists,
            probabilities,
            return_indices_ranked_by="self_confidence",
            filter_by="prune_by_noise_rate",
            n_jobs=1,
        )
        each = several.filter.find_multilabel_issues_per_class(
            lists, probabilities, filter_by="prune_by_noise_rate", n_jobs=1
        )
    assert ranked(probabilities, labels) == theirs.tolist()
    found = label_quality(probabilities, labels)
    assert ((found.suggested != labels) == each).all()


def test_entries_that_are_not_counted_are_as_if_they_were_not_there() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random((200, 2))
    labels = (rng.random((200, 2)) < probabilities).astype(np.int8)
    labels[::3, 1] = -1
    found, counted = label_quality(probabilities, labels), labels[:, 1] >= 0
    alone = label_quality(probabilities[counted, 1:], labels[counted, 1:])
    assert ((found.suggested[counted, 1] != labels[counted, 1]) == alone.is_issue).all()
    assert (found.suggested[~counted, 1] == -1).all()
    first = label_quality(probabilities[:, :1], labels[:, :1])
    assert (found.is_issue[~counted] == first.is_issue[~counted]).all()


def test_images_that_the_probabilities_agree_with_have_no_issue() -> None:
    labels = np.arange(20) % 4
    found = label_quality(np.full((20, 4), 0.1) + 0.6 * np.eye(4)[labels], labels)
    assert not found.is_issue.any()
    np.testing.assert_allclose(found.score, 0.7)
