"""The table of exported models counts the numbers that a file stores otherwise, and how far it is off."""

import re

import pytest

from experiments.export_table import main


@pytest.mark.faults  # two heads, six files
def test_a_row_says_that_a_file_is_near_and_why_it_is_no_nearer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["alexnet-cifar"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    found = re.fullmatch(r"\| `alexnet-cifar` \| (\S+) % \| (\S+), (\S+) \| (\S+) % \| (\S+), (\S+) \|", row)
    assert found
    onnx, low, high, torch, least, most = map(float, found.groups())
    assert 0 <= torch < 5
    assert 0 < onnx < 5, "another runtime adds up in another order"
    assert 0 < low <= high < 1e-4
    assert 0 < least <= most < 1e-4
