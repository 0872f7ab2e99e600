"""Files of weights: what fits is loaded, what does not is refused, nothing is executed."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import AlexNet_Weights, alexnet

from pipeline.config import PretrainConfig
from pipeline.errors import WeightsError
from pipeline.trunks import TRUNKS
from pipeline.trunks.alexnet_cifar import SHIPPED, load
from pipeline.trunks.weights import load_weights


def network(add: float = 0.0) -> nn.Sequential:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3)
    conv.weight.data += add
    return nn.Sequential(conv, nn.BatchNorm2d(4))


def test_one_digest_whatever_the_file_format(tmp_path: Path) -> None:
    source = network()
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    torch.save(source.state_dict(), tmp_path / "w.pth")
    digests = {load_weights(network(), tmp_path / name) for name in ("w.safetensors", "w.pth")}
    assert len(digests) == 1
    save_file(network(add=1e-3).state_dict(), tmp_path / "w.safetensors")
    assert load_weights(network(), tmp_path / "w.safetensors") not in digests


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.backbone."])
@pytest.mark.parametrize("key", ["", "state_dict", "model"])
def test_a_checkpoint_of_a_program_that_trains_is_the_network_in_it(
    key: str, prefix: str, tmp_path: Path
) -> None:
    plain = network().state_dict()
    saved: dict[str, Any] = {prefix + name: tensor for name, tensor in plain.items()}
    if prefix.startswith("model."):
        saved["model.head.weight"] = torch.zeros(2, 4)
    if key:
        saved = {"epoch": 3, key: saved, "optimizer": {"lr": 0.1}, "rng": torch.get_rng_state()}
    torch.save(saved, tmp_path / "w.pth")
    torch.save(plain, tmp_path / "plain.pth")
    empty = network(add=1)
    assert load_weights(empty, tmp_path / "w.pth") == load_weights(network(), tmp_path / "plain.pth")
    torch.testing.assert_close(empty.state_dict(), plain)


def test_a_checkpoint_of_several_networks_is_refused_with_their_names(tmp_path: Path) -> None:
    plain = network().state_dict()
    torch.save({"student": plain, "teacher": plain}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="found several: 'student', 'teacher'; save one alone: ") as caught:
        load_weights(network(), tmp_path / "w.pth")
    advice = str(caught.value).split("alone: ")[1].replace("'w", f"'{tmp_path}/w")
    exec(advice, {"torch": torch})
    load_weights(network(), tmp_path / "weights.pth")
    both = {f"{part}.{name}": t for name, t in plain.items() for part in ("student", "teacher")}
    torch.save(both, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"found several: under 'student\.', 'teacher\.'"):
        load_weights(network(), tmp_path / "w.pth")


def test_a_whole_module_is_refused_with_what_to_save(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"holds a torch\.nn\.\S+Sequential, .* save network\.state_dict"):
        load_weights(network(), tmp_path / "w.pth")


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "bomb.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "executed")))
    torch.save({"0.weight": Bomb(tmp_path / "executed")}, tmp_path / "bomb2.pth")
    for name in ("bomb.pth", "bomb2.pth"):
        with pytest.raises(WeightsError, match="not a readable file of weights"):
            load_weights(network(), tmp_path / name)
    assert not (tmp_path / "executed").exists()


def test_truncated_missing_and_foreign_files_are_refused_by_name(tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    for length in (0, 4, 20, len(whole) - 1):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"cut\.safetensors: not a readable file"):
            load_weights(network(), tmp_path / "cut.safetensors")
    with pytest.raises(WeightsError, match=r"none\.pth: no such file"):
        load_weights(network(), tmp_path / "none.pth")
    with pytest.raises(WeightsError, match=r"expected \(5,\) at '0.bias', found \(4,\)"):
        load_weights(nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), tmp_path / "whole.safetensors")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="expected a dict of tensors"):
        load_weights(network(), tmp_path / "list.pth")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    save_file(network(add=float("nan")).state_dict(), tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match="not finite"):
        load_weights(network(), tmp_path / "nan.safetensors")


def test_shipped_weights_load_and_are_small() -> None:
    trunk = load()
    assert SHIPPED.stat().st_size <= 6_000_000
    assert len(trunk.weights_sha256) == 64
    assert not trunk.module.training


def test_imagenet_alexnet_gives_256_by_5_by_5_from_a_file(tmp_path: Path) -> None:
    torch.save(alexnet().state_dict(), tmp_path / "alexnet.pth")
    trunk = TRUNKS["alexnet"].load(tmp_path / "alexnet.pth")
    size = trunk.transform.image_px
    with torch.inference_mode():
        assert trunk.module(torch.zeros(1, 3, size, size)).shape == (1, 256, 5, 5)


def test_without_a_network_the_error_says_where_to_put_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        AlexNet_Weights.IMAGENET1K_V1.value, "url", "http://127.0.0.1:9/alexnet.pth", raising=False
    )
    with pytest.raises(WeightsError, match=r"can't be downloaded .* put it at .*checkpoints/alexnet.pth"):
        TRUNKS["alexnet"].load(None)


@pytest.mark.parametrize("name", [name for name, trunk in TRUNKS.items() if trunk.untrained])
def test_a_trunk_that_can_be_trained_is_the_one_that_is_loaded(name: str) -> None:
    given = PretrainConfig()
    untrained, loaded = TRUNKS[name].load_untrained(given.widths, given.stage_layers), TRUNKS[name].load()
    assert untrained.name == loaded.name == name
    assert (untrained.version, untrained.transform) == (loaded.version, loaded.transform)
    shapes = [{k: t.shape for k, t in trunk.module.state_dict().items()} for trunk in (untrained, loaded)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", [name for name, trunk in TRUNKS.items() if not trunk.untrained])
def test_a_trunk_that_can_t_be_trained_says_so(name: str) -> None:
    with pytest.raises(ValueError, match="no untrained form"):
        TRUNKS[name].load_untrained((64, 256, 256), 2)
