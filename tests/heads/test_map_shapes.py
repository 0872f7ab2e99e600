"""Heads take maps of any shape: a cell, two by two, wide, tall; crops are a share of them."""

import pytest
import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.heads import HEADS
from pipeline.heads.base import Examples, FittedHead, Head, HeadSpec
from pipeline.maps.crops import usual_crop
from pipeline.training.announce import too_alike

SHAPES = [(8, 1, 1), (8, 2, 2), (8, 1, 9), (8, 14, 3)]
IMAGES, CLASSES = 12, 3


def of(name: str, shape: tuple[int, int, int], crops: str = "ten") -> Head:
    config = TrainConfig(head=name, crops=crops, hidden=(16,))  # pyright: ignore[reportArgumentType]
    return HEADS[name].load()(HeadSpec(config, shape, CLASSES, (0,), IMAGES))


def scores(head: Head, maps: Tensor) -> Tensor:
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        return head.eval()(head.prepare(maps))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_from_maps_of_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    head, labels = of(name, shape), torch.arange(IMAGES) % CLASSES
    inputs = head.prepare(torch.randn(IMAGES, 1, *shape, generator=torch.Generator().manual_seed(0)))
    if isinstance(head, FittedHead):
        head.fit(Examples(inputs, labels), choose=False)
    else:
        head.losses(inputs, labels).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert head(inputs).isfinite().all()
    assert head(inputs).shape == (1, IMAGES, CLASSES)


@pytest.mark.parametrize("crops", ["full", "ten"])
@pytest.mark.parametrize("name", [name for name, info in HEADS.items() if not info.fitted])
def test_a_map_is_prepared_alike_with_any_others_to_the_last_bit(name: str, crops: str) -> None:
    for shape in [(7, 5, 4), (64, 5, 5)]:
        head, maps = of(name, shape, crops), torch.randn(33, 1, *shape)
        whole = head.prepare(maps)
        for size in (1, 4, 16):
            assert torch.equal(torch.cat([head.prepare(some) for some in maps.split(size)]), whole)


@pytest.mark.parametrize("name", [name for name, info in HEADS.items() if "crops" in info.reads])
def test_on_a_map_of_one_cell_all_crops_score_alike(name: str) -> None:
    maps = torch.randn(4, 1, 8, 1, 1, generator=torch.Generator().manual_seed(0))
    full = scores(of(name, (8, 1, 1), "full"), maps)
    for crops in ("center", "five", "ten"):
        torch.testing.assert_close(scores(of(name, (8, 1, 1), crops), maps), full)


def test_a_crop_is_three_fifths_of_each_side_and_never_nothing() -> None:
    found = {side: usual_crop((side, side))[0] for side in range(1, 19)}
    assert found == {side: max(1, (6 * side + 5) // 10) for side in range(1, 19)}
    assert (found[5], found[14], usual_crop((5, 14)), usual_crop((1, 2))) == (3, 8, (3, 8), (1, 1))


@pytest.mark.parametrize(
    ("crops", "shape", "said"),
    [
        (
            "ten",
            (8, 1, 1),
            "of 10 crops of 1×1 cells only 1 differ on maps of 8×1×1; compare with --crops full",
        ),
        ("five", (8, 2, 2), "of 5 crops of 1×1 cells only 4 differ"),
        ("ten", (8, 3, 3), "of 10 crops of 2×2 cells only 8 differ"),
        ("ten", (8, 5, 5), ""),
        ("full", (8, 1, 1), ""),
    ],
)
def test_crops_that_coincide_are_warned_of(crops: str, shape: tuple[int, int, int], said: str) -> None:
    config = TrainConfig(crops=crops)  # pyright: ignore[reportArgumentType]
    found = too_alike(HeadSpec(config, shape, CLASSES, (0,)))
    assert found.startswith(said)
    assert bool(found) == bool(said)
