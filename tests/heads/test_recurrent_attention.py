"""Recurrent attention against loops in float64, and a stack of heads against each alone."""

from typing import Any

import numpy as np
import pytest
import torch
from support import attention_reference as plain
from support import reference
from support.attending import CLASSES, LABELS, stack, weights_of
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.heads.base import HeadSpec
from pipeline.heads.recurrent_attention import RecurrentAttention


@pytest.mark.parametrize("loss", ["bce", "softmax-square"])
@pytest.mark.parametrize(
    ("crops", "shape", "settings"),
    [
        ("full", (2, 5, 4), {}),
        ("full", (2, 5, 4), {"region_start": "whole"}),
        ("full", (2, 4, 4), {"region_cells": 4, "steps": 1}),
        ("center", (2, 6, 5), {"crop_cells": 3, "region_cells": 1}),
        ("five", (2, 6, 5), {"steps": 11}),
        ("ten", (2, 5, 6), {"region_cells": 3, "constraints": ("scale",), "localisation": 0.7}),
        ("ten-image", (2, 5, 5), {"crop_cells": 3}),
    ],
)
def test_scores_regions_and_loss_are_those_of_a_loop_over_everything(
    crops: str, shape: tuple[int, int, int], settings: dict[str, Any], loss: str
) -> None:
    head = stack(shape, crops=crops, loss=loss, **settings)
    maps = torch.randn(3, 2, *shape, dtype=torch.float64)
    inputs = head.prepare(maps)
    found, losses = head.attention(inputs), head.losses(inputs, LABELS)
    cut = reference.crops(crops, maps, head.crops[0].box.height)
    if crops in ("five", "ten"):  # not square: torchvision cuts what the boxes say
        height, width = head.crops[0].box[2:]
        cut = [_cut(maps[:, 0], crop, height, width) for crop in head.crops]
    for m in range(2):
        weights: Any = {name: w.numpy() for name, w in weights_of(head, m).items()}
        total = 0.0
        for image in range(3):
            fused, constraint = [], []
            for n, crop in enumerate(cut):
                thetas, scores = plain.look(crop[image].numpy(), weights, head.steps, *head.points)
                np.testing.assert_allclose(found.theta[m, image, n].detach(), thetas, rtol=0, atol=1e-9)
                np.testing.assert_allclose(found.step_logits[m, image, n].detach(), scores, rtol=0, atol=1e-9)
                fused.append(np.max(scores, axis=0))
                constraint.append(plain.localisation(thetas, head.constraints))
            logits = np.mean(fused, axis=0)
            np.testing.assert_allclose(found.logits[m, image].detach(), logits, rtol=0, atol=1e-9)
            labels: Any = LABELS[image].numpy()
            total += plain.classification(logits, labels, loss) + head.localisation * np.mean(constraint)
        assert losses[m].item() == pytest.approx(total / 3, rel=1e-9)


def _cut(maps: Tensor, crop: Any, height: int, width: int) -> Tensor:
    top, left = crop.box[:2]
    cells = maps[..., top : top + height, left : left + width]
    return cells.flip(-1) if crop.mirrored else cells


@pytest.mark.parametrize("crops", ["full", "ten"])
def test_each_head_of_a_stack_learns_what_it_would_alone(crops: str) -> None:
    config = TrainConfig(head="recurrent-attention", hidden=(5,), crops=crops)  # pyright: ignore[reportArgumentType]
    together = RecurrentAttention(HeadSpec(config, (2, 5, 5), CLASSES, (7, 8), multi_label=True)).double()
    maps = torch.randn(3, 1, 2, 5, 5, dtype=torch.float64)
    losses = together.losses(together.prepare(maps), LABELS)
    losses.sum().backward()
    for m, seed in enumerate((7, 8)):
        alone = RecurrentAttention(HeadSpec(config, (2, 5, 5), CLASSES, (seed,), multi_label=True)).double()
        loss = alone.losses(alone.prepare(maps), LABELS)
        torch.testing.assert_close(losses[m : m + 1], loss, rtol=0, atol=1e-12)
        loss.sum().backward()
        for name, parameter in alone.named_parameters():
            other = together.get_parameter(name)
            torch.testing.assert_close(other[m : m + 1], parameter, rtol=0, atol=0)
            assert other.grad is not None
            torch.testing.assert_close(other.grad[m : m + 1], parameter.grad, rtol=0, atol=1e-12)


def test_bfloat16_is_close_to_float32() -> None:
    config = TrainConfig(head="recurrent-attention", hidden=(32,), crops="ten")
    head = RecurrentAttention(HeadSpec(config, (8, 6, 6), CLASSES, (0,), multi_label=True))
    inputs = head.prepare(torch.randn(3, 1, 8, 6, 6))
    expected, found = head.losses(inputs, LABELS), head.losses(inputs.bfloat16(), LABELS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.05, atol=0)
    found.sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in head.parameters())


def test_several_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--hidden: expected one width for recurrent-attention, found 2"):
        stack((2, 5, 5), hidden=(4, 4))


def test_states_are_dropped_out_before_they_are_scored() -> None:
    """All 64 are 1 whatever the head sees, and a score counts the share that is left of them, made up for."""
    head = stack((2, 5, 5), seeds=(0,), hidden=(64,), dropout=0.5, crops="full")
    with torch.no_grad():
        head.state_weight.zero_()
        head.state_bias.fill_(1)
        head.score_weight.fill_(1 / 64)
        head.score_bias.zero_()
    inputs = head.prepare(torch.randn(50, 1, 2, 5, 5, dtype=torch.float64))
    head.train()
    head.start_epoch(0)
    scores = head.attention(inputs).step_logits.detach().flatten()
    assert len(scores.unique()) > 10
    assert scores.mean() == pytest.approx(1, abs=0.05)
    assert scores.std(correction=0) == pytest.approx(1 / 8, rel=0.2)  # of 64 that are 0 or 2
    head.eval()
    assert torch.allclose(head.attention(inputs).step_logits, torch.ones((), dtype=torch.float64))


def test_an_lstm_starts_with_open_forget_gates_and_orthogonal_states() -> None:
    """Its memory is kept from the start: Jozefowicz et al., ICML 2015."""
    head = RecurrentAttention(
        HeadSpec(TrainConfig(head="recurrent-attention", hidden=(6,)), (2, 5, 5), 3, (0, 1))
    )
    take, forget, candidate, show = head.lstm_bias.detach().split(6, 1)
    assert torch.equal(forget, torch.ones(2, 6))
    assert not any(gate.any() for gate in (take, candidate, show))
    for gate in head.lstm_weight.detach()[:, 6:].split(6, 2):
        torch.testing.assert_close(gate @ gate.transpose(1, 2), torch.eye(6).expand(2, 6, 6))
