"""The whole of `make demo`: the commands of the Makefile, as a user would type them, on the digits."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from support.scripts import run_scripts

ROOT = Path(__file__).parents[1]


def demo_commands() -> list[list[str]]:
    """The recipe of the target `demo`, word by word."""
    recipe = re.search(r"^demo:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    lines = recipe[1].replace("\\\n", " ").splitlines()
    return [shlex.split(line.replace("$(PY)", sys.executable)) for line in lines]


@pytest.mark.slow
def test_the_demo_learns_digits_and_leaves_what_it_says(tmp_path: Path) -> None:
    commands = demo_commands()
    assert len(commands) == 5
    assert {interpreter for interpreter, *_ in commands} == {sys.executable}
    said = run_scripts(tmp_path, [words for _, *words in commands])[-1]
    made = tmp_path / "artifacts/demo"
    top1 = {
        crops: json.loads((made / crops / "eval/metrics.json").read_text())["top1"]
        for crops in ("ten", "full")
    }
    assert top1["ten"] >= 96
    for crops, value in top1.items():
        assert re.search(rf"artifacts/demo/{crops} +{value:.2f}", said)
    for path in re.findall(r"^artifacts/\S+$", said, re.MULTILINE):
        assert (tmp_path / path).is_file()
    assert {p.name for p in (made / "ten").iterdir()} >= {
        "config.json",
        "metrics.jsonl",
        "head.safetensors",
        "eval",
    }
    assert {p.name for p in tmp_path.iterdir()} == {"artifacts"}
