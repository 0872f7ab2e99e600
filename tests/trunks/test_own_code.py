"""Code that a cache's identity names is executed only if it is the code that made the features."""

import re
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import ConfigError, WeightsError
from pipeline.trunks import load_trunk, trunk_of_identity

CODE = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("ran").touch()
def trunk():
    return nn.Conv2d(3, 4, 3)
"""


@pytest.mark.parametrize("spec", ["mine.py:trunk", "mine_module:trunk"])
def test_other_code_is_refused_before_it_runs(
    spec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file, ran = tmp_path / ("mine.py" if ".py:" in spec else "mine_module.py"), tmp_path / "ran"
    file.write_text(CODE)
    trunk = load_trunk(spec)
    identity = {"trunk": trunk.as_json(), "transform": trunk.transform.as_json()}
    assert trunk_of_identity(identity).weights_sha256 == trunk.weights_sha256
    ran.unlink()
    sys.modules.pop("mine_module", None)
    file.write_text(f"{CODE}# another\n")
    with pytest.raises(WeightsError, match=r"trunk\.code is .*, found .*; say with --trunk where"):
        trunk_of_identity(identity)
    assert not ran.exists()


@pytest.mark.parametrize("code", ["", None, "0" * 64])
def test_a_function_without_a_file_is_never_called(code: str | None) -> None:
    with pytest.raises(WeightsError, match="no file"):
        trunk_of_identity(
            {"trunk": {"name": "posix:abort", "layer": "", "code": code}, "transform": TRANSFORM}
        )


TRANSFORM = {
    "version": 2,
    "image_px": 32,
    "resize": "exact",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


def test_the_ten_lines_of_the_documents_are_a_trunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs/trunks.md").read_text(encoding="utf-8")
    found = re.search(r"^    # mine\.py\n(.*?)\n\n    \$ python", text, flags=re.M | re.S)
    assert found
    (tmp_path / "mine.py").write_text(textwrap.dedent(f"    {found[1].strip()}"))
    monkeypatch.chdir(tmp_path)
    plain = nn.Sequential(nn.Conv2d(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2))
    torch.save(plain.state_dict(), "mine.pth")
    trunk = load_trunk("mine.py:trunk")
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(trunk.module(images), plain.eval()(images))
    assert (trunk.transform.image_px, trunk.transform.mean) == (64, (0.5, 0.5, 0.5))
    assert trunk.transform.std == (0.25, 0.25, 0.25)


PYRAMID = """
from torch import nn
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.deep, self.fine = nn.Conv2d(4, 6, 3, 2), nn.Conv2d(3, 4, 3, 2)
    def forward(self, images):
        fine = self.fine(images)
        deep = self.deep(fine).relu()
        return OUTPUT
def trunk():
    network = Network()
    network.image_px = 32
    return network
"""


@pytest.mark.parametrize(
    ("output", "cells"),
    [
        ("fine, deep", 7),
        ("[fine, deep]", 7),
        ("{'loss': 0, 'features': deep}", 7),
        ("deep, fine.flatten(2).transpose(1, 2) @ fine.flatten(2)", 7),  # attention between cells
        ("fine, deep.mean((2, 3), keepdim=True)", 15),
    ],
)
def test_of_several_outputs_the_deepest_map_is_taken(
    output: str, cells: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PYRAMID.replace("OUTPUT", output))
    module = load_trunk("mine.py:trunk").module
    images = torch.randn(2, 3, 32, 32)
    network = module.network
    assert isinstance(network, nn.Module)
    fine = network.get_submodule("fine")(images)
    expected = network.get_submodule("deep")(fine).relu() if cells == 7 else fine
    assert expected.shape[-1] == cells
    torch.testing.assert_close(module(images), expected)


TOKENS = """
import torch
from torch import nn
class Network(nn.Module):
    image_px = 32
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 6, 8, 8)
        self.cls_token = nn.Parameter(torch.ones(1, 1, 6))
        self.register_tokens = nn.Parameter(torch.zeros(1, 4, 6))
        self.block = nn.LayerNorm(6)
    def forward(self, images):
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        before = torch.cat([self.cls_token, self.register_tokens], 1).expand(len(tokens), -1, -1)
        return self.block(torch.cat([before, tokens], 1))[:, 0]
"""


def test_tokens_before_the_patches_of_your_own_transformer_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(TOKENS)
    trunk = load_trunk("mine.py:Network")
    assert trunk.facts["layer"] == "block"
    images = torch.randn(2, 3, 32, 32)
    patches = trunk.module.network.get_submodule("patches")(images)  # pyright: ignore
    expected = nn.LayerNorm(6)(patches.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(trunk.module(images), expected)


def test_what_a_network_raises_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for raised in ("RuntimeError('mine\\nmore')", "NotImplementedError('mine')", "KeyError('mine')"):
        (tmp_path / "mine.py").write_text(PYRAMID.replace("return OUTPUT", f"raise {raised}"))
        line = rf"mine\.py:trunk can't take an image of 32 pixels: {raised[:5]}\w+: '?mine'?$"
        with pytest.raises(ConfigError, match=line):
            load_trunk("mine.py:trunk")
