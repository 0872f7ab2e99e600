"""Heads that are computed at once, against scikit-learn and loops in float64 on the same pooled maps."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from pipeline.config import TrainConfig
from pipeline.heads import knn, logistic
from pipeline.heads.base import Examples, HeadSpec
from pipeline.heads.knn import COUNTS, NearestNeighbours
from pipeline.heads.logistic import STRENGTHS, Logistic

CLASSES = 4
TOLERANCES = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-5), (torch.float32, 3e-3)], ids=["float64", "float32"]
)


def examples(images: int, seed: int, dtype: torch.dtype = torch.float64) -> Examples:
    """Five channels, four classes that overlap."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (images,), generator=draw)
    centres = torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(9))
    return Examples((centres[labels] + torch.randn(images, 5, generator=draw)).to(dtype), labels)


def several(images: int, seed: int, dtype: torch.dtype = torch.float64) -> Examples:
    """Five channels, any of four classes, a fifth of the labels not counted."""
    draw = torch.Generator().manual_seed(seed)
    labels = (torch.rand(images, CLASSES, generator=draw) < 0.3).to(torch.int8)
    centres = torch.randn(CLASSES, 5, generator=torch.Generator().manual_seed(9))
    inputs = labels.float() @ centres + torch.randn(images, 5, generator=draw)
    labels[torch.rand(images, CLASSES, generator=draw) < 0.2] = -1
    return Examples(inputs.to(dtype), labels)


def spec(data: Examples, classes: int = CLASSES, **settings: Any) -> HeadSpec:
    return HeadSpec(TrainConfig(**settings), (5, 3, 3), classes, (0,), len(data.labels), data.labels.ndim > 1)


def numbers(tensor: torch.Tensor) -> NDArray[np.float64]:
    return tensor.detach().double().numpy()


def objective(
    data: Examples, weight: torch.Tensor, bias: torch.Tensor, strength: float
) -> tuple[float, float]:
    """The mean cross-entropy plus λ/2·|W|², and its gradient's largest component, worked out by hand."""
    x, w, b = (numbers(part) for part in (data.inputs, weight, bias))
    one_hot = np.eye(len(b))[data.labels.numpy()]
    odds = np.exp(x @ w + b)
    shares = odds / odds.sum(1, keepdims=True)
    error = (shares - one_hot) / len(x)
    loss = -np.log((shares * one_hot).sum(1)).mean() + strength / 2 * (w * w).sum()
    return loss, max(np.abs(x.T @ error + strength * w).max(), np.abs(error.sum(0)).max())


@pytest.mark.parametrize(("dtype", "largest"), [(torch.float64, 2e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_logistic_regression_ends_where_the_objective_is_least(
    classes: int, dtype: torch.dtype, largest: float
) -> None:
    """By the gradient worked out by hand, and nowhere above scikit-learn's solution in float64."""
    data = examples(400, 0, dtype)
    data = Examples(*(part[data.labels < classes] for part in data))
    inputs, labels = numbers(data.inputs), data.labels.numpy()
    head = Logistic(spec(data, classes)).to(dtype)
    head.fit(data, choose=True)
    for strength, weight, bias in zip(STRENGTHS, head.weight, head.bias, strict=True):
        found, gradient = objective(data, weight, bias, strength)
        assert gradient < largest
        # For two classes it learns one difference w of scores: weights of -w/2 and w/2, whose square is half.
        scale = 2 if classes == 2 else 1
        theirs = LogisticRegression(C=scale / (len(labels) * strength), tol=1e-10, max_iter=10_000)
        theirs.fit(inputs, labels)
        parts = [torch.from_numpy(part) for part in (theirs.coef_.T, theirs.intercept_)]
        if classes == 2:
            parts = [torch.cat([-part, part], -1) / 2 for part in parts]
        expected, _ = objective(data, *parts, strength)
        assert found == pytest.approx(expected, rel=1e-4 if dtype == torch.float32 else 1e-8)


@pytest.mark.parametrize("seed", range(0, 24, 2))
def test_a_class_without_an_image_leaves_the_others_as_they_are(seed: int) -> None:
    """Its bias has no minimum: the loss only gets flatter, and what is seen of its curvature is rounding."""
    data, others = examples(80, seed), examples(20, seed + 1)
    learned = Examples(*(part[data.labels > 0] for part in data))
    whole, fewer = Logistic(spec(learned)).double(), Logistic(spec(learned, CLASSES - 1)).double()
    whole.fit(learned, choose=True)
    fewer.fit(Examples(learned.inputs, learned.labels - 1), choose=True)
    assert whole.bias.abs().max() < 200  # or float32 would round the others' off
    shares = whole(others.inputs).softmax(2)
    assert shares[..., 0].max() < 1e-6
    expected = fewer(others.inputs).softmax(2)
    torch.testing.assert_close(shares[..., 1:], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_of_several_labels_a_class_that_none_or_all_have_leaves_the_others_as_they_are(seed: int) -> None:
    data, others = several(80, seed), examples(20, seed + 1)
    labels = data.labels.clone()
    labels[:, 0] = labels[:, 0].clamp(max=0)  # absent or not counted
    labels[:, 1] = labels[:, 1].where(labels[:, 1] < 0, 1)
    whole, fewer = Logistic(spec(Examples(data.inputs, labels))), Logistic(spec(data, CLASSES - 2))
    whole, fewer = whole.double(), fewer.double()
    whole.fit(Examples(data.inputs, labels), choose=True)
    fewer.fit(Examples(data.inputs, labels[:, 2:]), choose=True)
    shares = whole(others.inputs).sigmoid()
    assert shares[..., 0].max() < 1e-6
    assert shares[..., 1].min() > 1 - 1e-6
    assert whole.bias.abs().max() < 200
    torch.testing.assert_close(shares[..., 2:], fewer(others.inputs).sigmoid(), rtol=0, atol=1e-4)


@TOLERANCES
def test_logistic_regression_gives_the_probabilities_of_a_tight_solution_in_float64(
    dtype: torch.dtype, tolerance: float
) -> None:
    data, others = examples(300, 0, dtype), examples(100, 1, dtype)
    head = Logistic(spec(data)).to(dtype)
    assert head.fit(data, choose=True) == [{"l2": strength} for strength in STRENGTHS]
    for strength, logits in zip(STRENGTHS, head(others.inputs), strict=True):
        theirs = LogisticRegression(C=1 / (300 * strength), tol=1e-10, max_iter=10_000)
        theirs.fit(numbers(data.inputs), data.labels.numpy())
        expected = theirs.predict_proba(numbers(others.inputs))
        np.testing.assert_allclose(numbers(logits.softmax(1)), expected, rtol=0, atol=tolerance)


@pytest.mark.no_cover
@TOLERANCES
@pytest.mark.parametrize("rows", [7, 8192])
def test_logistic_regression_of_several_labels_is_one_of_scikit_learn_s_for_each(
    monkeypatch: pytest.MonkeyPatch, rows: int, dtype: torch.dtype, tolerance: float
) -> None:
    """On the images whose label is counted, in whatever portions the images are taken."""
    monkeypatch.setattr(logistic, "ROWS", rows)
    data, others = several(300, 0, dtype), several(100, 1, dtype)
    head = Logistic(spec(data)).to(dtype)
    head.fit(data, choose=True)
    for strength, logits in zip(STRENGTHS, head(others.inputs), strict=True):
        for k in range(CLASSES):
            counted = data.labels[:, k] >= 0
            assert 0 < counted.sum() < 300
            theirs = LogisticRegression(C=1 / (300 * strength), tol=1e-10, max_iter=10_000)
            theirs.fit(numbers(data.inputs[counted]), data.labels[counted, k].numpy())
            expected = theirs.predict_proba(numbers(others.inputs))[:, 1]
            np.testing.assert_allclose(numbers(logits[:, k].sigmoid()), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("cells", [1, 1 << 24])
def test_neighbours_vote_as_scikit_learn_s_do(monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    monkeypatch.setattr(knn, "CELLS", cells)
    data, others = examples(300, 0), examples(50, 1)
    head = NearestNeighbours(spec(data)).double()
    assert head.fit(data, choose=True) == [{"neighbours": k} for k in COUNTS]
    weigh: Any = lambda far: np.exp((1 - far) / 0.07)  # noqa: E731
    for k, logits in zip(COUNTS, head(others.inputs), strict=True):
        theirs = KNeighborsClassifier(k, metric="cosine", weights=weigh)
        theirs.fit(data.inputs.numpy(), data.labels.numpy())
        shares = np.asarray(theirs.predict_proba(others.inputs.numpy()))
        expected = (k * shares + 1 / CLASSES) / (k + 1)
        np.testing.assert_allclose(numbers(logits.softmax(1)), expected, rtol=1e-9)


def share(query: NDArray[np.float64], data: Examples, label: int, k: int) -> tuple[float, int]:
    """The weight of the neighbours with the label, of all that count; how many count. In plain loops."""
    bank, labels = data.inputs.numpy(), data.labels.numpy()
    cosines = [row @ query / np.sqrt((row @ row) * (query @ query)) for row in bank]
    present = counted = 0.0
    voters = 0
    for i in sorted(range(len(bank)), key=lambda i: -cosines[i])[:k]:
        if labels[i, label] != -1:
            weight = np.exp(cosines[i] / 0.07)
            counted, voters = counted + weight, voters + 1
            present += weight if labels[i, label] == 1 else 0
    return (present / counted if voters else 0.0), voters


@pytest.mark.parametrize("cells", [1, 1 << 24])
def test_neighbours_of_several_labels_vote_where_their_label_is_counted(
    monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    """The sigmoid of a score is the share with one vote more, half for and half against."""
    monkeypatch.setattr(knn, "CELLS", cells)
    data, others = several(120, 0), several(10, 1)
    head = NearestNeighbours(spec(data)).double()
    counts = [setting["neighbours"] for setting in head.fit(data, choose=True)]
    assert counts == [1, 3, 5, 10, 20, 50, 100]
    silent = 0
    for k, logits in zip(counts, head(others.inputs), strict=True):
        found = numbers(logits.sigmoid())
        for image, query in enumerate(others.inputs.numpy()):
            for label in range(CLASSES):
                expected, voters = share(query, data, label, k)
                silent += voters == 0
                expected = (voters * expected + 0.5) / (voters + 1)
                assert found[image, label] == pytest.approx(expected, rel=1e-9)
    assert silent  # a single neighbour whose label isn't counted says nothing


def test_a_label_that_is_never_absent_and_one_that_is_never_counted_are_scored() -> None:
    data = several(60, 0, torch.float32)
    data.labels[:, 0], data.labels[:, 1] = 1, -1
    for head in (Logistic(spec(data)), NearestNeighbours(spec(data))):
        head.fit(data, choose=True)
        scores = head(data.inputs)
        assert scores.isfinite().all()
        assert (scores[..., 0] > 0).all()
        assert (scores[..., 1] == 0).all()


@pytest.mark.parametrize("head", [Logistic, NearestNeighbours])
def test_one_label_each_under_a_binary_loss_is_each_class_against_the_rest(
    head: type[Logistic] | type[NearestNeighbours],
) -> None:
    """--loss bce: as if the labels were columns."""
    data, others = examples(150, 0), examples(40, 1)
    columns = Examples(data.inputs, torch.nn.functional.one_hot(data.labels).to(torch.int8))
    one, each = head(spec(data, loss="bce")).double(), head(spec(columns)).double()
    one.fit(data, choose=True)
    each.fit(columns, choose=True)
    torch.testing.assert_close(one(others.inputs), each(others.inputs), rtol=1e-9, atol=1e-9)
