"""Every command that README, docs and the Makefile name is understood: a flag that is gone is found here."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest

from experiments.attention.config import AttentionConfig
from experiments.crops.config import CropsConfig
from experiments.solar_cells import CellsConfig
from pipeline.checks import Checked
from pipeline.cli import COMMANDS, parse
from pipeline.config import (
    EvaluateConfig,
    ExportConfig,
    ExtractConfig,
    PredictConfig,
    PretrainConfig,
    RunConfig,
    SweepConfig,
)

ROOT = Path(__file__).parents[1]
CONFIGS: dict[str, type[Checked]] = {
    "run.py": RunConfig,
    "extract_features.py": ExtractConfig,
    "train_head.py": SweepConfig,
    "evaluate.py": EvaluateConfig,
    "predict.py": PredictConfig,
    "export_model.py": ExportConfig,
    "pretrain_trunk.py": PretrainConfig,
    **{f"tencrop {name}": resolve_name(config_class) for name, (config_class, *_) in COMMANDS.items()},
    "-m experiments.crops": CropsConfig,
    "-m experiments.attention": AttentionConfig,
    "-m experiments.solar_cells": CellsConfig,
}
SCRIPT = "|".join(map(re.escape, CONFIGS))
TARGETS = (
    *("demo", "demo-multilabel", "demo-photos", "pretrain", "run", "extract"),
    *("train-head", "eval", "predict", "export-model", "ablate", "ablate-attention"),
)
PLACEHOLDERS = {"D": "digits", "T": "alexnet-cifar", "H": "fullnet"}


def documented() -> list[str]:
    """Whole commands: in backticks, or on a line of a block of code. A script's bare name is none."""
    found = []
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = path.read_text(encoding="utf-8")
        found += re.findall(rf"`(?:python )?((?:{SCRIPT})\s[^`]*)`", text)
        found += re.findall(rf"^(?:python )?((?:{SCRIPT})\s[^#\n]*)", text, flags=re.MULTILINE)
    return found


def of_make() -> list[str]:
    """What the targets would call."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    command = ["make", "-n", f"PY={sys.executable}", *TARGETS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return re.findall(rf"((?:{SCRIPT}).*)", done.stdout)


@pytest.mark.parametrize(
    "dataset", ["digits", "voc2007:/data/voc", "folder:../my photos/", "csv:~/a-b/l.csv"]
)
@pytest.mark.parametrize(("views", "image_px"), [("plain", None), ("augment:3", 64)])
def test_make_and_the_scripts_name_folders_alike(dataset: str, views: str, image_px: int | None) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    settings = [f"DATASET={dataset}", f"VIEWS={views}", f"IMAGE_PX={image_px or ''}", "HEAD=linear knn"]
    command = ["make", "-n", f"PY={sys.executable}", "extract", "train-head", "eval", "verify", *settings]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    cache = ExtractConfig(dataset=dataset, views=views, image_px=image_px).cache_dir
    run = SweepConfig(cache=str(cache), head=("linear", "knn")).run_dir
    words = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line.startswith(sys.executable)]
    extract, train, evaluate, verify = words[-4:]
    size = f" --image-px {image_px}" if image_px else ""
    asked = f"--dataset '{dataset}' --trunk 'alexnet-cifar' --views '{views}'{size}"
    assert extract.rstrip() == f"extract_features.py {asked} --cache '{cache}'".replace("  ", " ")
    assert train.rstrip() == f"train_head.py --cache '{cache}' --head linear knn --crops ten --out '{run}'"
    assert evaluate.rstrip() == f"evaluate.py --run '{run}'"
    assert verify.rstrip() == f"-m cache verify '{cache}'"


def test_make_says_what_is_wrong_with_a_variable() -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    command = ["make", "-n", f"PY={sys.executable}", "train-head", "TRUNK=alexnt"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "--trunk: expected one of alexnet-cifar" in done.stderr
    assert "Traceback" not in done.stderr


def understand(command: str) -> None:
    script = next(script for script in CONFIGS if command.startswith(script))
    flags = shlex.split(command.removeprefix(script))
    known = [PLACEHOLDERS.get(flag, flag) for flag in flags if not re.search(r"[\[\]…]", flag)]
    parse(CONFIGS[script], script, known)


@pytest.mark.parametrize("command", documented())
def test_a_documented_command_is_understood(command: str) -> None:
    understand(command)


def test_commands_are_found_in_the_documents_and_all_that_make_calls_are_understood() -> None:
    assert len(documented()) >= 8
    commands = of_make()
    assert len(commands) > 10
    for command in commands:
        understand(command)
