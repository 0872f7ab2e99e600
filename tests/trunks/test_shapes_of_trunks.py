"""Trunks of other widths and depths: a file of weights tells its shape, and a cache knows it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.extracting import settings
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.errors import StaleCacheError, WeightsError
from pipeline.extraction.stage import extract
from pipeline.trunks import load_trunk, trunk_of_identity
from pipeline.trunks.alexnet_cifar import SHIPPED, WIDE, load, untrained

SHAPES = [((64, 256, 256), 2), ((6, 10, 8), 3), ((12, 8, 8), 2), ((4, 30, 5), 4), ((64, 256, 256), 3)]


def written(path: Path, widths: tuple[int, ...], stage_layers: int) -> nn.Module:
    """The network of this shape, whose statistics aren't the initial ones, in a file."""
    torch.manual_seed(1)
    module = untrained(widths, stage_layers).module
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            layer.running_mean.normal_(std=0.1)
    save_file({name: t for name, t in module.state_dict().items() if t.is_floating_point()}, path)
    return module


def by_hand(weights: dict[str, Tensor], images: Tensor, stage_layers: int) -> Tensor:
    """The layers in a row; the first of a stage pools, that of the last has no rim instead."""
    convs = sorted((int(name.split(".")[0]), t) for name, t in weights.items() if t.ndim == 4)
    maps = F.gelu(F.conv2d(images, convs[0][1], weights["0.bias"]))
    for i, (place, kernel) in enumerate(convs[1:]):
        stage, is_first = divmod(i, stage_layers)[0], i % stage_layers == 0
        maps = F.conv2d(maps, kernel, padding=0 if is_first and stage == 2 else 1)
        pooled = is_first and stage < 2
        maps = F.max_pool2d(maps, 2) if pooled else maps
        norm = f"{place + 1 + pooled}."
        mean, var = weights[f"{norm}running_mean"], weights[f"{norm}running_var"]
        maps = F.gelu(F.batch_norm(maps, mean, var, bias=weights[f"{norm}bias"]))
    return maps


@pytest.mark.parametrize(("widths", "stage_layers"), SHAPES)
def test_a_file_loads_in_its_own_shape_and_gives_the_maps_of_its_layers(
    widths: tuple[int, ...], stage_layers: int, tmp_path: Path
) -> None:
    module = written(tmp_path / "t.safetensors", widths, stage_layers)
    trunk = load(tmp_path / "t.safetensors")
    is_usual = (widths, stage_layers) == ((64, 256, 256), 2)
    assert trunk.facts == ({} if is_usual else {"widths": list(widths), "stage_layers": stage_layers})
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps = trunk.module(images)
        assert torch.allclose(maps, by_hand(module.state_dict(), images, stage_layers), atol=1e-4)
    assert maps.shape == (2, widths[2], 5, 5)


def test_the_shipped_trunk_s_identity_says_nothing_of_a_shape() -> None:
    """So caches that were made of it before there were others stay what they are."""
    assert set(load().as_json()) == {"name", "version", "weights"}
    assert load(SHIPPED).as_json() == load().as_json()


def test_the_wide_trunk_is_known_by_its_own_name_and_found_again_without_a_file() -> None:
    trunk = load_trunk("alexnet-cifar-wide")
    made = trunk.as_json()
    assert made == load(WIDE).as_json() | {"name": "alexnet-cifar-wide"}
    assert (made["widths"], made["stage_layers"]) == ([64, 384, 256], 3)
    assert made["weights"] != load().as_json()["weights"]
    assert trunk_of_identity({"trunk": made, "transform": trunk.transform.as_json()}).as_json() == made
    with torch.inference_mode():
        assert trunk.module(torch.zeros(1, 3, 32, 32)).shape == (1, 256, 5, 5)


@pytest.mark.parametrize("wrong", ["one kernel", "no channels", "too many", "no layers", "other names"])
def test_a_file_of_another_kind_of_network_is_refused_in_one_line(wrong: str, tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    tensors = {
        name: t for name, t in untrained((6, 10, 8), 3).module.state_dict().items() if t.is_floating_point()
    }
    if wrong == "one kernel":
        tensors["6.weight"] = torch.zeros(6, 6, 1, 1)
    elif wrong == "no channels":
        kept = {name: t for name, t in tensors.items() if name.startswith("0.")}
        inputs = {name: 24 if name == "2.weight" else 0 for name, t in tensors.items() if t.ndim == 4}
        none = {name: t[:0, : inputs[name]] if name in inputs else t[:0] for name, t in tensors.items()}
        tensors = {name: t.contiguous() for name, t in none.items()} | kept
    elif wrong == "too many":  # a layer from all of them to all of them would take 16 TB
        tensors["12.weight"] = torch.zeros(2_000_000, 1, 1, 1)
    elif wrong == "no layers":
        tensors = {"0.weight": tensors["0.weight"]}
    else:
        tensors = {f"trunk.{name}": t for name, t in tensors.items()}
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r"t\.safetensors: the weights of another network: ") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_another_shape_is_another_cache_and_refused_by_name(
    photos: Path, weights: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    written(other, (6, 10, 8), 3)
    extract(settings(photos, other, tmp_path / "c"))
    said = (
        r"trunk\.stage_layers: 3 → absent \(--weights\); .*trunk\.widths: \[6,10,8\] → absent \(--weights\)"
    )
    with pytest.raises(StaleCacheError, match=said):
        extract(settings(photos, weights, tmp_path / "c"))
    made = load_trunk("alexnet-cifar", other)
    identity = {"trunk": made.as_json(), "transform": made.transform.as_json()}
    with pytest.raises(WeightsError, match=said):  # whoever predicts from it, without the file
        trunk_of_identity(identity)
    assert trunk_of_identity(identity, other).as_json() == made.as_json()
