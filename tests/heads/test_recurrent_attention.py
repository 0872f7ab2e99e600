"""Recurrent attention against loops in float64, and against torch's own sampling and LSTM."""

from typing import Any

import attention_reference as plain
import numpy as np
import pytest
import reference
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.gradients import drop_gradient
from pipeline.heads.base import HeadSpec
from pipeline.heads.recurrent_attention import RecurrentAttention

CLASSES = 3
LABELS = torch.tensor([[1, 0, 1], [0, 0, 0], [-1, 1, 0]], dtype=torch.int8)


def stack(
    shape: tuple[int, int, int], seeds: tuple[int, ...] = (0, 1), **settings: Any
) -> RecurrentAttention:
    """In float64, with regions that differ from image to image and from step to step."""
    config = TrainConfig(head="recurrent-attention", **{"hidden": (6,), **settings})
    head = RecurrentAttention(HeadSpec(config, shape, CLASSES, seeds, multi_label=True)).double()
    with torch.no_grad():
        for m, seed in enumerate(seeds):
            draw = torch.Generator().manual_seed(seed)
            for name, parameter in head.named_parameters():
                noise = torch.randn(parameter[m].shape, generator=draw, dtype=torch.float64)
                if name != "region_weight":
                    parameter[m] += 0.4 * noise
    return head


def weights_of(head: RecurrentAttention, m: int) -> dict[str, Tensor]:
    """Head m's weights as they lie, but the first layer's rows in the order C, p, q."""
    found = {name: p[m].detach() for name, p in head.named_parameters()}
    p, q = head.points
    rows = found["region_weight"].view(p, -1, q, len(found["region_bias"])).transpose(0, 1)
    return {**found, "region_weight": rows.reshape(found["region_weight"].shape)}


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


def by_torch(
    head: RecurrentAttention, m: int, maps: Tensor, leaves: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Regions (B, S, 4) and step scores (B, S, K) of whole maps, by grid_sample and LSTMCell."""
    width, (p, q) = len(leaves["region_bias"]), head.points
    cell = nn.LSTMCell(width, width).double()
    split = {"weight_ih": leaves["lstm_weight"][:width].t(), "weight_hh": leaves["lstm_weight"][width:].t()}
    split |= {"bias_ih": leaves["lstm_bias"], "bias_hh": torch.zeros(4 * width, dtype=torch.float64)}
    state = torch.zeros(2, len(maps), width, dtype=torch.float64).unbind()
    theta = torch.tensor([1, 1, 0, 0], dtype=torch.float64).expand(len(maps), 4)
    thetas, scores = [], []
    for k in range(head.steps + 1):
        zero = torch.zeros_like(theta[:, 0])
        matrix = torch.stack([theta[:, 0], zero, theta[:, 2], zero, theta[:, 1], theta[:, 3]], 1).view(
            -1, 2, 3
        )
        grid = F.affine_grid(matrix, [len(maps), maps.shape[1], p, q], align_corners=True)
        region = F.grid_sample(maps, grid, "bilinear", "zeros", align_corners=True)
        x = (region.flatten(1) @ leaves["region_weight"] + leaves["region_bias"]).relu()
        state = torch.func.functional_call(cell, split, (x, state))
        z = (state[0] @ leaves["state_weight"] + leaves["state_bias"]).relu()
        if k:
            scores.append(z @ leaves["score_weight"] + leaves["score_bias"])
        if k < head.steps:
            starts = leaves["place_bias"].view(-1, 4)
            theta = z @ leaves["place_weight"] + starts[k % len(starts)]
            thetas.append(theta)
    return torch.stack(thetas, 1), torch.stack(scores, 1)


@pytest.mark.parametrize("start", ["anchors", "whole"])
def test_scores_and_all_gradients_are_those_of_grid_sample_and_lstm_cell(start: str) -> None:
    head = stack((3, 7, 6), crops="full", region_start=start)
    maps = torch.randn(3, 1, 3, 7, 6, dtype=torch.float64)
    found = head.attention(head.prepare(maps))
    (found.logits.square().sum() + found.theta.cos().sum()).backward()
    for m in range(2):
        leaves = {name: w.clone().requires_grad_() for name, w in weights_of(head, m).items()}
        theta, scores = by_torch(head, m, maps[:, 0], leaves)
        torch.testing.assert_close(found.theta[m, :, 0], theta, rtol=0, atol=1e-10)
        torch.testing.assert_close(found.step_logits[m, :, 0], scores, rtol=0, atol=1e-10)
        (scores.amax(1).square().sum() + theta.cos().sum()).backward()
        gradients = {name: p.grad for name, p in head.named_parameters()}
        for name, leaf in leaves.items():
            ours = gradients[name]
            assert ours is not None
            assert leaf.grad is not None
            mine = ours[m]
            if name == "region_weight":
                p, q = head.points
                mine = mine.view(p, -1, q, mine.shape[-1]).transpose(0, 1).reshape(mine.shape)
            torch.testing.assert_close(mine, leaf.grad, rtol=1e-8, atol=1e-9)


def test_gradients_through_regions_lstm_and_constraints_are_those_of_differences() -> None:
    head = stack((2, 4, 5), crops="ten", hidden=(3,), steps=3)
    inputs = head.prepare(torch.randn(3, 1, 2, 4, 5, dtype=torch.float64))
    names = [name for name, _ in head.named_parameters()]

    def losses(*values: Tensor) -> Tensor:
        parameters = dict(zip(names, values, strict=True))
        return torch.func.functional_call(
            _Losses(head), {f"head.{n}": p for n, p in parameters.items()}, inputs
        )

    parameters = tuple(p.detach().clone().requires_grad_() for p in head.parameters())
    assert torch.autograd.gradcheck(losses, parameters, fast_mode=True)


class _Losses(nn.Module):
    def __init__(self, head: RecurrentAttention) -> None:
        super().__init__()
        self.head = head

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head.losses(inputs, LABELS)


def test_regions_start_as_the_whole_map_or_as_half_of_it_each_at_its_anchor() -> None:
    starts = {"whole": 11 * [[1.0, 1, 0, 0]], "anchors": [[0.5, 0.5, *at] for at in plain.ANCHORS]}
    starts["anchors"] += starts["anchors"][:2]
    for start, expected in starts.items():
        config = TrainConfig(
            head="recurrent-attention",
            hidden=(8,),
            crops="full",
            steps=11,
            region_start=start,  # pyright: ignore[reportArgumentType]
        )
        head = RecurrentAttention(HeadSpec(config, (2, 5, 5), CLASSES, (0, 1)))
        theta = head.attention(head.prepare(torch.randn(4, 1, 2, 5, 5))).theta
        assert torch.equal(theta, torch.tensor(expected).expand(2, 4, 1, 11, 4))


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


def test_fixed_regions_neither_depend_on_the_image_nor_learn() -> None:
    head = stack((2, 5, 4), crops="full", region_start="fixed")
    inputs = head.prepare(torch.randn(3, 1, 2, 5, 4, dtype=torch.float64))
    expected = head.place_bias.view(2, 1, 1, 5, 4).expand(-1, 3, -1, -1, -1)
    assert torch.equal(head.attention(inputs).theta, expected)
    head.losses(inputs, LABELS).sum().backward()
    idle = {name for name, p in head.named_parameters() if p.grad is None}
    assert idle == {"place_weight", "place_bias"}


def test_a_dropped_gradients_memory_is_written_again_and_none_that_is_in_use() -> None:
    head = stack((2, 5, 4), crops="ten")
    one, other = (head.prepare(torch.randn(3, 1, 2, 5, 4, dtype=torch.float64)) for _ in range(2))
    weight = head.region_weight

    def gradient(*batches: Tensor) -> Tensor:
        torch.stack([head.losses(inputs, LABELS).sum() for inputs in batches]).sum().backward()
        assert weight.grad is not None
        return weight.grad

    first = gradient(one).clone()
    both = gradient(other).clone()  # added to what was there
    place = gradient(one).data_ptr()
    drop_gradient(weight)
    second = gradient(other)
    assert second.data_ptr() == place
    torch.testing.assert_close(both, first + second, rtol=0, atol=1e-12)
    drop_gradient(weight)
    torch.testing.assert_close(gradient(one, other), both, rtol=0, atol=1e-12)  # two in one backward pass
    drop_gradient(weight)
    (kept,), (_,) = (torch.autograd.grad(head.losses(x, LABELS).sum(), weight) for x in (one, other))
    torch.testing.assert_close(kept, first, rtol=0, atol=1e-12)
    head.float()  # other numbers, other memory
    torch.testing.assert_close(gradient(one.float()), first.float(), rtol=1e-4, atol=1e-5)
