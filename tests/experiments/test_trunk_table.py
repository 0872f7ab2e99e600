"""The table of models says of each which map a cache of it holds, and of one that fails why."""

import re

import pytest

from experiments.trunk_table import main


def test_a_row_is_what_timm_gives_and_a_failure_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    timm = pytest.importorskip("timm")
    assert main(["timm:nope", "timm:test_resnet"]) == 1
    said = capsys.readouterr()
    assert "timm has no model 'nope'" in said.err
    row = said.out.splitlines()[-1]
    model = timm.create_model("test_resnet")
    channels, reduction = model.feature_info[-1]["num_chs"], model.feature_info[-1]["reduction"]
    side = model.pretrained_cfg["input_size"][-1]
    cells = side // reduction
    assert f"| {side} | {channels}×{cells}×{cells} |" in row
    found = re.fullmatch(r"\| `timm:test_resnet` \| `(.+)` \|.*\| (\S+) \|", row)
    assert found
    assert model.feature_info[-1]["module"] == found[1]
    assert float(found[2]) < 1e-3
