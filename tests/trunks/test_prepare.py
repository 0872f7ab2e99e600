"""The prepared trunk computes what the trunk as written computes."""

import pytest
import torch
from torch import nn

from pipeline.images.transform import Transform
from pipeline.trunks.alexnet_cifar import untrained
from pipeline.trunks.base import Trunk, normalise
from pipeline.trunks.folding import fold_norms
from pipeline.trunks.prepare import PreparedTrunk


def with_statistics(module: nn.Module) -> nn.Module:
    """Norms as after training: no statistic at its initial value."""
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_()
            assert layer.running_var is not None
            layer.running_var.uniform_(0.5, 2)
            if layer.affine:
                layer.bias.data.normal_()
    return module.eval()


def test_maps_of_32_pixels_are_256_by_5_by_5_and_larger_images_give_larger_maps() -> None:
    module = untrained().module.eval()
    assert module(torch.zeros(1, 3, 32, 32)).shape == (1, 256, 5, 5)
    assert module(torch.zeros(1, 3, 64, 48)).shape == (1, 256, 13, 9)


def test_folding_removes_every_norm_and_keeps_the_function() -> None:
    module = with_statistics(untrained().module).double()
    assert isinstance(module, nn.Sequential)
    folded = fold_norms(module)
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in folded)
    torch.testing.assert_close(folded(images), module(images), rtol=1e-10, atol=1e-10)


def test_a_norm_with_a_negative_scale_is_not_folded_through_a_pooling() -> None:
    norm = nn.BatchNorm2d(4)
    stack = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), norm)
    with_statistics(stack).double()
    norm.weight.data.copy_(torch.tensor([1.0, -1, 1, 1]))
    images = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    folded = fold_norms(stack)
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in folded)
    torch.testing.assert_close(folded(images), stack(images))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_uint8_images_give_the_maps_of_normalised_ones(precision: str) -> None:
    trunk = untrained()
    with_statistics(trunk.module)
    images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    prepared = PreparedTrunk(trunk, torch.device("cpu"), precision)
    with torch.inference_mode():
        expected = trunk.module(normalise(images, trunk.transform))
    tolerance = 1e-4 if precision == "float32" else 0.05
    torch.testing.assert_close(
        prepared(images).float(), expected, rtol=tolerance, atol=tolerance * expected.abs().max().item()
    )


STACKS = {
    "strided and padded": [
        nn.Conv2d(3, 8, 5, 2, 2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 6, 3),
    ],
    "a kernel of one": [nn.Conv2d(3, 8, 1, bias=False), nn.GELU(), nn.Conv2d(8, 6, 3, padding=1, groups=2)],
    "reflected rim": [nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.ReLU()],
    "padding in words": [nn.Conv2d(3, 8, 3, padding="same"), nn.GELU(approximate="tanh")],
    "norm first": [nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3)],
    "pooling first": [nn.MaxPool2d(2), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 3)],
    "norms without numbers": [nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.BatchNorm2d(8, affine=False)],
    "nested": [nn.Conv2d(3, 8, 3), nn.Sequential(nn.BatchNorm2d(8), nn.Conv2d(8, 6, 3), nn.SiLU())],
}


@pytest.mark.parametrize("name", STACKS)
def test_any_stack_is_prepared_to_the_same_function(name: str) -> None:
    torch.manual_seed(0)
    module = with_statistics(nn.Sequential(*STACKS[name]))
    transform = Transform(image_px=17, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    images = torch.randint(0, 256, (3, 3, 17, 17), dtype=torch.uint8)
    prepared = PreparedTrunk(Trunk("t", 1, module, transform, ""), torch.device("cpu"), "float32")
    with torch.inference_mode():
        expected = module(normalise(images, transform))
    torch.testing.assert_close(prepared(images), expected, rtol=1e-4, atol=1e-4)


def test_the_shipped_trunk_stays_in_one_layout_and_takes_pixels_as_they_are() -> None:
    prepared = PreparedTrunk(untrained(), torch.device("cpu"), "float32")
    assert prepared.blocked == torch.backends.mkldnn.is_available()
    assert prepared.normalises == prepared.blocked


def test_a_map_depends_on_its_image_alone() -> None:
    """Not on the others of its batch, nor on their number."""
    trunk = untrained()
    with_statistics(trunk.module)
    prepared = PreparedTrunk(trunk, torch.device("cpu"), "float32")
    images = torch.randint(0, 256, (33, 3, 32, 32), dtype=torch.uint8)
    whole = prepared(images)
    assert torch.equal(whole[:5], prepared(images[:5]))
    assert torch.equal(whole[32:], prepared(images[32:]))


def test_preparing_leaves_the_trunk_as_it_was() -> None:
    trunk = Trunk(
        "t", 1, nn.Sequential(nn.Conv2d(3, 2, 3)), Transform(image_px=8, mean=(0, 0, 0), std=(1, 1, 1)), ""
    )
    before = {name: t.clone() for name, t in trunk.module.state_dict().items()}
    PreparedTrunk(trunk, torch.device("cpu"), "bfloat16")
    for name, tensor in trunk.module.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, before[name])


def test_a_trunk_is_in_evaluation_mode_however_it_was_loaded() -> None:
    """The live trunk that a cache is compared to would else take its norms' statistics from one image."""
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    transform = Transform(image_px=17, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    assert not any(layer.training for layer in Trunk("t", 1, module, transform, "").module.modules())
