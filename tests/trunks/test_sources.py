"""Trunks of libraries and of one's own code: their maps are the library's, layer by layer."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from pipeline.errors import ConfigError, WeightsError
from pipeline.trunks import layers_of, load_trunk, load_trunks


def images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """A library's model with the weights that --weights none gives."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().eval()


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layer", ["layer2", "layer4"])
def test_maps_of_torchvision_are_those_of_its_feature_extractor(layer: str) -> None:
    network = seeded(torchvision.models.resnet18)
    trunk = load_trunk(f"torchvision:resnet18@{layer}", "none", image_px=64)
    with torch.inference_mode():
        expected = create_feature_extractor(network, {layer: "maps"})(images(64))["maps"]
        same(trunk.module(images(64)), expected)
    assert trunk.as_json()["library"] == f"torchvision {torchvision.__version__.partition('+')[0]}"


def test_the_last_map_of_torchvision_s_resnet_is_the_default() -> None:
    default, named = (load_trunk(f"torchvision:resnet18{at}", "none", image_px=32) for at in ("", "@layer4"))
    assert default.as_json() == named.as_json()
    assert default.as_json()["layer"] == "layer4"


@pytest.mark.parametrize("index", [1, 5])
def test_patch_tokens_of_timm_are_its_own_intermediate_maps(index: int) -> None:
    network = seeded(lambda: timm.create_model("vit_tiny_patch16_224", img_size=64))
    trunk = load_trunk(f"timm:vit_tiny_patch16_224@blocks.{index}", "none", image_px=64)
    with torch.inference_mode():
        (expected,) = network.forward_intermediates(images(64), indices=[index], intermediates_only=True)  # pyright: ignore[reportCallIssue]
        same(trunk.module(images(64)), expected)
    assert expected.shape == (2, 192, 4, 4)


def test_the_default_of_a_transformer_is_behind_its_last_norm() -> None:
    network = seeded(lambda: timm.create_model("vit_tiny_patch16_224", img_size=32))
    with torch.inference_mode():
        tokens = network.forward_features(images(32))  # pyright: ignore[reportCallIssue]
        found = load_trunk("timm:vit_tiny_patch16_224", "none", image_px=32).module(images(32))
    same(found, tokens[:, 1:].transpose(1, 2).reshape(2, 192, 2, 2))


def test_maps_with_channels_last_come_with_channels_first() -> None:
    network = seeded(
        lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=64, depths=(1, 1, 1, 1))
    )
    layers = {
        layer.name: layer.shape for layer in layers_of("timm:swin_tiny_patch4_window7_224", image_px=64)
    }
    assert layers["layers.1"] == (192, 8, 8)
    with torch.inference_mode():
        assert network.forward_features(images(64)).shape == (2, 2, 2, 768)  # pyright: ignore[reportCallIssue]


@pytest.fixture(scope="module")
def dino(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DINOv2 with registers, saved as the hub has it."""
    folder = tmp_path_factory.mktemp("dino")
    config = transformers.Dinov2WithRegistersConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        mlp_ratio=2,
        image_size=28,
        patch_size=7,
        num_register_tokens=4,
    )
    torch.manual_seed(3)
    transformers.Dinov2WithRegistersModel(config).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        '{"image_processor_type": "BitImageProcessor", "do_resize": true, "size": {"shortest_edge": 32}, '
        '"do_center_crop": true, "crop_size": {"height": 28, "width": 28}, "resample": 2, '
        '"do_normalize": true, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}'
    )
    return folder


def test_transformers_leaves_class_and_register_tokens_out(dino: Path) -> None:
    trunk = load_trunk(f"transformers:{dino}")
    network = transformers.Dinov2WithRegistersModel.from_pretrained(dino).eval()
    with torch.inference_mode():
        tokens = network(images(28)).last_hidden_state
        found = trunk.module(images(28))
        layer = load_trunk(f"transformers:{dino}@encoder.layer.0").module(images(28))
        hidden = network(images(28), output_hidden_states=True).hidden_states
    same(found, tokens[:, 5:].transpose(1, 2).reshape(2, 16, 4, 4))
    same(layer, hidden[1][:, 5:].transpose(1, 2).reshape(2, 16, 4, 4))
    transform = trunk.transform
    assert (transform.image_px, transform.crop_share, transform.interpolation) == (28, 0.875, "bilinear")
    assert (transform.mean, transform.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_transformers_own_file_is_what_weights_takes(dino: Path, tmp_path: Path) -> None:
    folder = tmp_path / "without"
    shutil.copytree(dino, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    whole = load_trunk(f"transformers:{dino}")
    given = load_trunk(f"transformers:{folder}", dino / "model.safetensors")
    assert given.weights_sha256 == whole.weights_sha256
    same(given.module(images(28)), whole.module(images(28)))


def test_a_transformer_without_some_weights_is_refused_where_it_needs_them(
    dino: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(dino, tmp_path / "part")
    kept = {n: t for n, t in load_file(dino / "model.safetensors").items() if ".layer.1." not in n}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"its files have no weights for \S*layer\S*\.1\..* and \d+ more"):
        load_trunk(f"transformers:{folder}")
    load_trunk(f"transformers:{folder}@encoder.layer.0")


def test_of_clip_it_is_the_tower_for_images_and_without_a_side_it_is_224(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.CLIPConfig(
        text_config={**sizes, "vocab_size": 9, "bos_token_id": 1, "eos_token_id": 2},  # pyright: ignore[reportCallIssue]
        vision_config={**sizes, "image_size": 32, "patch_size": 8},  # pyright: ignore[reportCallIssue]
    )
    transformers.CLIPModel(config).save_pretrained(tmp_path / "clip")
    network = transformers.CLIPVisionModel.from_pretrained(tmp_path / "clip").eval()
    with torch.inference_mode():
        tokens = network(images(32)).last_hidden_state
    found = load_trunk(f"transformers:{tmp_path}/clip").module(images(32))
    same(found, tokens[:, 1:].transpose(1, 2).reshape(2, 16, 4, 4))
    small = transformers.ResNetConfig(embedding_size=4, hidden_sizes=[4, 4], depths=[1, 1])
    transformers.ResNetModel(small).save_pretrained(tmp_path / "resnet")
    assert load_trunk(f"transformers:{tmp_path}/resnet").transform.image_px == 224


def test_timm_s_file_is_what_weights_takes_at_another_side(tmp_path: Path) -> None:
    name = "vit_tiny_patch16_224"
    weights = timm.create_model(name).state_dict()
    torch.save(weights, tmp_path / "vit.pth")
    overlay = {"state_dict": weights}
    network = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, img_size=64).eval()
    with torch.inference_mode():
        expected = network.forward_intermediates(  # pyright: ignore[reportCallIssue]
            images(64), indices=[0], norm=False, intermediates_only=True
        )[0]
    same(load_trunk(f"timm:{name}@blocks.0", tmp_path / "vit.pth", image_px=64).module(images(64)), expected)


OWN = """
import torch
from torch import nn

def stack():
    torch.manual_seed(5)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 6, 3, 2))
    module.image_px, module.mean, module.std = 16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return module

def number():
    return 3

def vector():
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 224 * 224, 4))
"""


def test_own_code_gives_a_module_whose_output_or_layers_are_the_maps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nets.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    spec = f"{tmp_path}/nets.py:stack"
    trunk, inner = load_trunk(spec), load_trunk(f"{spec}@0")
    torch.manual_seed(5)
    convs = nn.Conv2d(3, 4, 3, 2), nn.Conv2d(4, 6, 3, 2)
    with torch.inference_mode():
        same(inner.module(images(16)), convs[0](images(16)))
        same(trunk.module(images(16)), convs[1](convs[0](images(16)).relu()))
    assert trunk.transform.image_px == 16
    assert trunk.as_json() == load_trunk("nets.py:stack").as_json(), "a path from here, or from the root"
    assert trunk.as_json() == load_trunk("nets:stack").as_json() | {"name": "nets.py:stack"}
    (tmp_path / "nets.py").write_text(f"{OWN}\n# changed\n")
    assert load_trunk(spec).as_json() != trunk.as_json()
    with pytest.raises(ConfigError, match=r"number gave a int; expected a torch\.nn\.Module"):
        load_trunk("nets.py:number")
    with pytest.raises(ConfigError, match=r"no function 'stak'; did you mean stack\?"):
        load_trunk("nets.py:stak")
    with pytest.raises(ConfigError, match="vector has no layer that gives a map"):
        load_trunk("nets.py:vector")


def test_layers_in_one_run_are_those_of_runs_of_their_own() -> None:
    from pipeline.trunks.loading import joint

    trunks = load_trunks("timm:resnet18@layer1.0.bn1,layer1,layer3", "none", image_px=64)
    alone = [
        load_trunk(f"timm:resnet18@{at}", "none", image_px=64) for at in ("layer1.0.bn1", "layer1", "layer3")
    ]
    with torch.inference_mode():
        together = joint(trunks)(images(64))
        for maps, trunk, one in zip(together, trunks, alone, strict=True):
            same(maps, one.module(images(64)))
            same(trunk.module(images(64)), maps)
            assert trunk.as_json() == one.as_json()


def test_weights_come_from_a_file_of_the_network_or_of_the_trunk(tmp_path: Path) -> None:
    torch.manual_seed(9)
    network = timm.create_model("resnet18", num_classes=7).eval()
    save_file(network.state_dict(), tmp_path / "whole.safetensors")
    whole = load_trunk("timm:resnet18@layer2", tmp_path / "whole.safetensors", image_px=32)
    with torch.inference_mode():
        (expected,) = network.forward_intermediates(images(32), indices=[2], intermediates_only=True)  # pyright: ignore[reportCallIssue]
        same(whole.module(images(32)), expected)
    save_file(whole.module.get_submodule("network").state_dict(), tmp_path / "trunk.safetensors")
    part = load_trunk("timm:resnet18@layer2", tmp_path / "trunk.safetensors", image_px=32)
    assert part.as_json() == whole.as_json()
    with pytest.raises(WeightsError, match=r"layer3\.0\.bn1\.bias', found nothing"):
        load_trunk("timm:resnet18@layer3", tmp_path / "trunk.safetensors", image_px=32)
    with pytest.raises(WeightsError, match="the weights of another network"):
        load_trunk("timm:resnet10t@layer2", tmp_path / "whole.safetensors", image_px=32)


def test_random_weights_are_the_same_every_time_and_leave_the_generator_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    first, second = (load_trunk("timm:resnet10t", "none", image_px=32).as_json() for _ in range(2))
    assert torch.equal(torch.rand(1), expected)
    assert first == second
    assert first["random_seed"] == 0


MISTAKES = {
    "timm:resnet81": r"timm has no model 'resnet81'; did you mean resnet18\?",
    "timm:resnet18.x1": r"timm:resnet18 has no weights 'x1'; expected one of .*a1_in1k",
    "torchvision:resnet81": r"torchvision has no model 'resnet81'; did you mean resnet18\?",
    "timm:resnet10t@layer5": r"'layer5' is none of its layers; did you mean layer\d\?; timm:resnet10t@\?",
    "timm:resnet10t@fc": r"'fc' gives no map, or runs several times",
    "torchvision:resnet18@layer1.0.relu": r"'layer1\.0\.relu' gives no map, or runs several times",
    "transformers:./nowhere": r"\./nowhere: no such folder, and no name on the hub",
    "alexnet-cifar@20": r"alexnet-cifar: '20' is none of its layers",
}


@pytest.mark.parametrize("spec", MISTAKES)
def test_what_there_is_not_is_refused_with_what_is_nearest(spec: str) -> None:
    with pytest.raises(ConfigError, match=MISTAKES[spec]):
        load_trunk(spec, None if spec.startswith("alexnet") else "none")


def test_a_side_that_a_model_can_t_take_is_refused_by_its_flag() -> None:
    with pytest.raises(
        ConfigError, match=r"--image-px: timm:vit_tiny_patch16_224 takes no images of 8 pixels"
    ):
        load_trunk("timm:vit_tiny_patch16_224", "none", image_px=8)


@pytest.mark.parametrize(
    "source", ["torchvision:resnet18", "timm:resnet18", "transformers:someone/something"]
)
def test_without_a_network_one_line_names_the_url_and_the_flag(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(
        WeightsError, match=r"https://\S+: can't be downloaded \(.*--(weights|trunk)"
    ) as caught:
        load_trunk(source)
    assert "\n" not in str(caught.value)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "spec", ["efficientnet-lite0", "timm:vit_tiny_patch16_224@blocks.1", "torchvision:resnet18"]
)
def test_a_trunk_can_be_exported_without_what_it_doesn_t_use(spec: str) -> None:
    trunk = load_trunk(spec, "none" if ":" in spec else None, image_px=64)
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(trunk.module, (images(64),), dynamic_shapes=({0: batch},))
    with torch.inference_mode():
        same(program.module()(images(64)[:1]), trunk.module(images(64)[:1]))
    used = sum(t.numel() for t in trunk.module.parameters())
    assert sum(t.numel() for t in program.state_dict.values() if t.requires_grad) == used
