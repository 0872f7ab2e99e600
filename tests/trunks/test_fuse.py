"""Fused networks compute what they did, and nothing is folded that somebody else reads."""

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.images.transform import Transform
from pipeline.trunks import load_trunk, load_trunks
from pipeline.trunks.base import Trunk, normalise
from pipeline.trunks.fuse import fuse
from pipeline.trunks.loading import joint
from pipeline.trunks.prepare import PreparedTrunk

CPU = torch.device("cpu")


def with_statistics(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_(std=0.2)
            assert layer.running_var is not None
            layer.running_var.uniform_(0.5, 2)
            layer.bias.data.normal_(std=0.2)
    return module.eval()


def prepared_maps(trunk: Trunk, side: int) -> tuple[Tensor, Tensor, PreparedTrunk]:
    """The maps as prepared, and of the module as written."""
    images = torch.randint(0, 256, (3, 3, side, side), dtype=torch.uint8)
    prepared = PreparedTrunk(trunk, CPU, "float32")
    with torch.inference_mode():
        return prepared(images), trunk.module(normalise(images, trunk.transform)), prepared


FUSED = {  # specification → how many modules of these classes are left
    "efficientnet-lite0": {"BatchNormAct2d": 0, "ReLU6": 0, "Conv2dSame": 0},
    "torchvision:resnet18": {"BatchNorm2d": 0},  # its ReLU runs twice a block, once behind a sum
    "timm:resnet18": {"BatchNorm2d": 0},
    "timm:mobilenetv3_small_050": {"BatchNormAct2d": 0},
    "timm:vit_tiny_patch16_224": {"Linear": 0, "GELU": 0},
    "torchvision:squeezenet1_1": {"ReLU": 0},
}


@pytest.mark.parametrize("spec", FUSED)
def test_a_fused_network_gives_the_same_maps_in_fewer_passes(
    spec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trunk = load_trunk(spec, "none" if ":" in spec else None, image_px=64)
    if ":" in spec:
        with_statistics(trunk.module)
    found, expected, prepared = prepared_maps(trunk, 64)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    left = [type(part).__name__ for part in prepared.module.modules()]
    assert {name: left.count(name) for name in FUSED[spec]} == FUSED[spec]
    assert "as written" not in capsys.readouterr().out


def test_layers_that_are_stored_stay_what_they_were_when_their_neighbours_are_fused() -> None:
    """A convolution's own output, its norm's, and the block's, in one run."""
    names = ("layer1.0.conv1", "layer1.0.bn1", "layer1.0.act1", "layer1", "layer2")
    trunks = load_trunks(f"timm:resnet18@{','.join(names)}", "none", image_px=64)
    with_statistics(trunks[-1].module)
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = joint(trunks)(images)
        fused = fuse(joint(trunks), images[:1], kernels=True)(images)
    for maps, same in zip(fused, expected, strict=True):
        torch.testing.assert_close(maps, same, rtol=1e-4, atol=1e-4)


class Odd(nn.Module):
    """Norms that follow a convolution in a run, but whose folding would change something."""

    def __init__(self) -> None:
        super().__init__()
        self.read_twice, self.after = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.run_twice, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.direct = nn.Conv2d(4, 4, 1)
        self.act = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        maps = self.read_twice(images)
        maps = maps * 2 + self.after(maps)
        maps = self.run_twice(self.act(self.run_twice(maps)))
        return F.conv2d(self.norm(maps), self.direct.weight) + self.act(maps)


@pytest.mark.parametrize("kernels", [False, True])
def test_what_something_else_reads_is_left_alone(kernels: bool) -> None:
    module = with_statistics(Odd())
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        expected = module(images)
        torch.testing.assert_close(fuse(module, images[:1], kernels)(images), expected, rtol=1e-5, atol=1e-5)
    assert sum(isinstance(part, nn.BatchNorm2d) for part in module.modules()) == 2


class Branching(nn.Module):
    """Reads an output only for images that are larger than those it is watched on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        normed = self.norm(maps)
        return normed + maps if len(images) > 1 else normed


def test_a_network_that_can_t_be_fused_is_used_as_written(capsys: pytest.CaptureFixture[str]) -> None:
    transform = Transform(image_px=12, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    trunk = Trunk("branching", 1, with_statistics(Branching()), transform, "")
    found, expected, _ = prepared_maps(trunk, 12)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert "trunk branching: used as written, since its maps differ by" in capsys.readouterr().out


def test_only_norms_are_folded_where_there_are_no_kernels() -> None:
    network = with_statistics(timm.create_model("efficientnet_b0"))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)
        fused = fuse(network, images[:1], kernels=False)
        torch.testing.assert_close(fused(images), expected, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())
    assert any(isinstance(part, nn.SiLU) for part in fused.modules())


SWEPT = ["resnet", "convnext", "efficientnet", "vit", "vit2", "vit3", "byobnet", "nfnet", "mambaout"]


@pytest.mark.parametrize("family", SWEPT)
def test_a_family_of_timm_is_prepared_to_its_own_maps(family: str) -> None:
    """The smallest of each; docs/trunks.md has the table of the real ones."""
    trunk = load_trunk(f"timm:test_{family}", "none", image_px=160)
    found, expected, _ = prepared_maps(trunk, 160)
    assert expected.shape[2:] > (1, 1)
    assert (found - expected).abs().max() <= 1e-4 * expected.abs().max()
