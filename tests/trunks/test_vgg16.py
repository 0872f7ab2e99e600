"""VGG-16 up to pool5: the maps' shapes, its own weights, its way of resizing, its preparation."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VGG16_Weights, vgg16

from pipeline.config import ExtractConfig
from pipeline.errors import WeightsError
from pipeline.extraction.work import trunk_of
from pipeline.trunks.base import Trunk, normalise
from pipeline.trunks.imagenet import vgg16 as load
from pipeline.trunks.prepare import PreparedTrunk


def state() -> dict[str, Tensor]:
    """Random weights of the whole network; the classifier's are a number each, which makes a small file."""
    torch.manual_seed(0)
    with torch.device("meta"):
        network = vgg16(init_weights=False)
    tensors = {}
    for name, tensor in network.state_dict().items():
        if name.startswith("classifier"):
            tensors[name] = torch.zeros(1).expand(tensor.shape)
        elif tensor.ndim == 4:
            tensors[name] = torch.randn(tensor.shape) * (2 / tensor[0].numel()) ** 0.5
        else:
            tensors[name] = torch.randn(tensor.shape) * 0.1
    return tensors


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(state(), path)
    return path


@pytest.fixture(scope="module")
def trunk(weights: Path) -> Trunk:
    return load(weights)


@pytest.mark.parametrize(("image_px", "cells"), [(448, 14), (576, 18), (64, 2), (32, 1)])
def test_a_map_has_512_channels_and_a_cell_per_32_pixels(trunk: Trunk, image_px: int, cells: int) -> None:
    """Shapes alone: the module runs without numbers."""
    module = nn.Sequential(*trunk.module.children())
    shapes = torch.func.functional_call(
        module,
        {name: t.to("meta") for name, t in module.state_dict().items()},
        torch.zeros(1, 3, image_px, image_px, device="meta"),
    ).shape
    assert shapes == (1, 512, cells, cells)


def test_whole_images_are_seen_at_448_pixels_unless_asked_otherwise(trunk: Trunk, weights: Path) -> None:
    assert (trunk.transform.image_px, trunk.transform.resize) == (448, "squash")
    config = ExtractConfig(
        trunk="vgg16", weights=str(weights), image_px=576, resize="shorter-side-then-center-crop"
    )
    asked = trunk_of(config)
    assert (asked.transform.image_px, asked.transform.resize) == (576, "shorter-side-then-center-crop")
    assert asked.weights_sha256 == trunk.weights_sha256


def test_the_maps_are_those_of_torchvisions_network_with_these_weights(trunk: Trunk) -> None:
    torch.manual_seed(1)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    reference = vgg16(init_weights=False).features.eval()
    reference.load_state_dict(
        {name.removeprefix("features."): t for name, t in state().items() if name.startswith("features")}
    )
    prepared = PreparedTrunk(trunk, torch.device("cpu"), "float32")
    with torch.inference_mode():
        expected = reference(normalise(images, trunk.transform))
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(prepared(images), expected, rtol=1e-3, atol=1e-4)
    assert prepared.blocked == torch.backends.mkldnn.is_available()


def test_without_a_network_the_error_says_where_to_put_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        VGG16_Weights.IMAGENET1K_V1.value, "url", "http://127.0.0.1:9/vgg16.pth", raising=False
    )
    with pytest.raises(WeightsError, match=r"can't be downloaded .* put it at .*checkpoints/vgg16.pth"):
        load(None)
