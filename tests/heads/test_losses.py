"""Losses against loops over images and classes, in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from support import attention_reference as reference

from pipeline.errors import ConfigError
from pipeline.heads.losses import anchors, classification_loss, kind_of_loss, localisation_loss

SINGLE = torch.tensor([2, 0, 1, 2])
SEVERAL = torch.tensor([[1, 0, 1], [0, 0, 0], [-1, 1, 0], [-1, -1, 0]], dtype=torch.int8)


@pytest.mark.parametrize("labels", [SINGLE, SEVERAL], ids=["one label", "several"])
@pytest.mark.parametrize("kind", ["cross-entropy", "bce", "softmax-square"])
def test_the_loss_of_an_image_is_what_a_loop_over_its_classes_gives(kind: str, labels: torch.Tensor) -> None:
    if kind == "cross-entropy" and labels is SEVERAL:
        pytest.skip("refused")
    logits = 3 * torch.randn(2, 4, 3, dtype=torch.float64)
    found = classification_loss(logits, labels, kind)
    plain = labels.numpy()
    if labels.ndim == 1 and kind != "cross-entropy":
        plain = np.eye(3)[plain]
    expected = [
        [reference.classification(x, y, kind) for x, y in zip(head.numpy(), plain, strict=True)]
        for head in logits
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_what_is_not_counted_moves_no_score() -> None:
    logits = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    classification_loss(logits, SEVERAL, "bce").sum().backward()
    assert logits.grad is not None
    assert ((logits.grad[0] == 0) == (SEVERAL == -1)).all()


def test_an_image_without_a_label_moves_no_score_of_the_softmax() -> None:
    logits = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    classification_loss(logits, SEVERAL, "softmax-square").sum().backward()
    assert logits.grad is not None
    assert (logits.grad[0, [1, 3]] == 0).all()
    assert (logits.grad[0, [0, 2]] != 0).all()


@pytest.mark.parametrize("steps", [1, 5, 7])
@pytest.mark.parametrize(
    "constraints", [("anchor", "scale", "positive"), ("anchor",), ("scale",), ("positive",), ()]
)
def test_constraints_are_summed_over_regions_and_averaged_over_crops(
    constraints: tuple[str, ...], steps: int
) -> None:
    theta = torch.randn(2, 3, 4, steps, 4, dtype=torch.float64)
    found = localisation_loss(theta, constraints, anchors(theta.shape[3], theta.dtype))
    for m in range(2):
        for image in range(3):
            crops = [reference.localisation(crop, constraints) for crop in theta[m, image].numpy()]
            assert found[m, image].item() == pytest.approx(np.mean(crops), rel=1e-12)


@pytest.mark.parametrize("kind", ["bce", "softmax-square"])
def test_gradients_are_those_of_the_losses(kind: str) -> None:
    logits = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: classification_loss(x, SEVERAL, kind), logits)
    theta = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    everything: Any = ("anchor", "scale", "positive")
    assert torch.autograd.gradcheck(
        lambda x: localisation_loss(x, everything, anchors(x.shape[3], x.dtype)), theta
    )


def test_half_precision_scores_lose_nothing_more() -> None:
    logits = torch.randn(2, 4, 3).bfloat16()
    found = classification_loss(logits, SEVERAL, "bce")
    torch.testing.assert_close(found, classification_loss(logits.float(), SEVERAL, "bce"), rtol=0, atol=0)


def test_auto_follows_the_labels_and_one_label_s_loss_is_refused_for_several() -> None:
    assert kind_of_loss("auto", multi_label=False) == "cross-entropy"
    assert kind_of_loss("auto", multi_label=True) == "bce"
    assert kind_of_loss("softmax-square", multi_label=True) == "softmax-square"
    with pytest.raises(
        ConfigError, match=r"^--loss: expected auto, bce or softmax-square, .* found cross-en"
    ):
        kind_of_loss("cross-entropy", multi_label=True)
