"""A model's own preprocessing: the pixels that torchvision's and timm's transforms give."""

import numpy as np
import pytest
import timm
import torchvision
from PIL import Image
from timm.data.transforms_factory import create_transform

from pipeline.trunks import load_trunk

SIZES = [(300, 400), (401, 299), (224, 224), (90, 61), (37, 512)]


def picture(width: int, height: int) -> Image.Image:
    """Smooth, so that a pixel more or less at the rim is seen and noise is not."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_torchvision_s_transform(size: tuple[int, int]) -> None:
    preset = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.transforms()
    trunk, image = load_trunk("torchvision:resnet18", "none"), picture(*size)
    found = trunk.transform.apply(np.asarray(image)).astype(np.float64)
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (preset.mean, preset.std))
    expected = preset(image).numpy() * std * 255 + mean * 255
    assert np.abs(found - expected).max() <= 2  # two passes that round, over other parts of the image
    assert np.abs(found - expected).mean() < 0.1


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_timm_s_transform(size: tuple[int, int]) -> None:
    trunk, image = load_trunk("timm:resnet18", "none"), picture(*size)
    network = timm.create_model("resnet18")
    options = timm.data.resolve_model_data_config(network)  # pyright: ignore[reportAttributeAccessIssue]
    expected = np.asarray(create_transform(**options, normalize=False)(image), np.float64)  # pyright: ignore
    found = trunk.transform.apply(np.asarray(image)).astype(np.float64)
    assert np.abs(found - expected).max() <= 2  # two passes that round, over other parts of the image
    assert np.abs(found - expected).mean() < 0.1
