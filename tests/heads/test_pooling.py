"""gap, gmp and csra against a loop over crops, classes and cells, in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import reference
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.heads import HEADS
from pipeline.heads.base import Head, HeadSpec
from pipeline.heads.csra import ResidualAttention
from pipeline.heads.linear import Linear

CLASSES, SHAPE = 3, (4, 6, 6)
CROPS = ["center", "five", "ten", "ten-image", "full"]


def stack(name: str, **settings: Any) -> Any:
    config = TrainConfig(head=name, **settings)
    head: Head = HEADS[name].load()(HeadSpec(config, SHAPE, CLASSES, (0, 1), multi_label=True)).double()
    with torch.no_grad():
        head.get_parameter("bias").normal_()
    return head


def images() -> Tensor:
    return torch.randn(3, 2, *SHAPE, dtype=torch.float64)


@pytest.mark.parametrize("crop_cells", [None, 3])
@pytest.mark.parametrize("crops", CROPS)
@pytest.mark.parametrize("name", ["gap", "gmp"])
def test_each_crop_is_pooled_and_scored_and_scores_are_averaged(
    name: str, crops: str, crop_cells: int | None
) -> None:
    head, maps = stack(name, crops=crops, crop_cells=crop_cells), images()
    found = head(head.prepare(maps))
    for m in range(2):
        scores = []
        for crop in reference.crops(crops, maps, crop_cells or 4):
            pooled = crop.mean((2, 3)) if name == "gap" else crop.amax((2, 3))
            scores.append(pooled @ head.weight[m] + head.bias[m])
        torch.testing.assert_close(found[m], torch.stack(scores).mean(0), rtol=0, atol=1e-12)


def test_gap_of_the_whole_map_is_linear() -> None:
    gap, maps = stack("gap", crops="full"), images()
    linear = Linear(HeadSpec(TrainConfig(head="linear"), SHAPE, CLASSES, (0, 1))).double()
    linear.load_state_dict(gap.state_dict())
    torch.testing.assert_close(gap(gap.prepare(maps)), linear(linear.prepare(maps)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperatures", [(1.0,), (99.0,), (1.0, 4.0, 99.0)])
@pytest.mark.parametrize("crops", CROPS)
def test_csra_is_its_formula_cell_by_cell(crops: str, temperatures: tuple[float, ...]) -> None:
    head = stack("csra", crops=crops, csra_temperature=temperatures, csra_lambda=0.3)
    maps = images()
    found = head(head.prepare(maps)).detach().numpy()
    weight, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    cut = [crop.numpy() for crop in reference.crops(crops, maps, 4)]
    for m in range(2):
        for image in range(3):
            for label in range(CLASSES):
                logits = [
                    sum(
                        logit_of(crop[image], weight[m, part, :, label], temperature, 0.3)
                        for part, temperature in enumerate(temperatures)
                    )
                    for crop in cut
                ]
                expected = np.mean(logits) + bias[m, label]
                assert found[m, image, label] == pytest.approx(expected, rel=1e-9)


def logit_of(
    crop_CHW: NDArray[np.float64], vector: NDArray[np.float64], temperature: float, share: float
) -> float:
    """Of one class; 99 stands for the maximum."""
    length = math.sqrt(sum(v * v for v in vector))
    cells = crop_CHW.reshape(len(crop_CHW), -1).T
    scores = [float(np.dot(vector, cell)) / length for cell in cells]
    if temperature == 99:
        attended = max(scores)
    else:
        exponentials = [math.exp(temperature * score) for score in scores]
        attended = sum(e * s for e, s in zip(exponentials, scores, strict=True)) / sum(exponentials)
    return sum(scores) / len(scores) + share * attended


@pytest.mark.parametrize("name", ["gap", "gmp", "csra"])
def test_each_head_of_a_stack_learns_what_it_would_alone(name: str) -> None:
    config, maps = TrainConfig(head=name, csra_temperature=(1.0, 99.0)), images()
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [-1, 1, 0]], dtype=torch.int8)
    kind = HEADS[name].load()
    together: Head = kind(HeadSpec(config, SHAPE, CLASSES, (7, 8), multi_label=True)).double()
    together.losses(together.prepare(maps), labels).sum().backward()
    for m, seed in enumerate((7, 8)):
        alone: Head = kind(HeadSpec(config, SHAPE, CLASSES, (seed,), multi_label=True)).double()
        alone.losses(alone.prepare(maps), labels).sum().backward()
        for key, parameter in alone.named_parameters():
            other = together.get_parameter(key)
            assert torch.equal(other[m : m + 1], parameter)
            assert other.grad is not None
            torch.testing.assert_close(other.grad[m : m + 1], parameter.grad, rtol=0, atol=1e-12)


def test_the_maximum_takes_no_softmax_and_its_gradient_goes_to_one_cell() -> None:
    config = TrainConfig(head="csra", crops="full", csra_temperature=(99.0,))
    head = ResidualAttention(HeadSpec(config, SHAPE, CLASSES, (0,), multi_label=True)).double()
    inputs = head.prepare(images()).requires_grad_()
    head.share = 1e6  # so that the mean's part doesn't count
    head(inputs)[0, 0, 0].backward()
    assert inputs.grad is not None
    strength = inputs.grad[0].abs().sum(-1).flatten()
    assert (strength > 1e3).sum() == 1
