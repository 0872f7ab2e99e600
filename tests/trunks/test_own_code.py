"""Code that a cache's identity names is executed only if it is the code that made the features."""

import re
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.errors import WeightsError
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
