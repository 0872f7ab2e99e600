"""`python -m benchmarks`: a failure is a row, what is missing is run again, the page is what was measured."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.page import BEGIN, END, tables
from benchmarks.registry import BENCHMARKS
from benchmarks.results import read

ROOT = Path(__file__).parents[1]
TINY = {
    "fine": "def run(quick):\n    return [row('a | b', 1, 2, 1.5, 's'), row('limit', 3, 4, '<= 1', 'MB')]\n",
    "nothing": "def run(quick):\n    return []\n",
    "wrong": "def run(quick):\n    assert quick, 'the sides differ'\n    return []\n",
    "killed": "import os\ndef run(quick):\n    os.kill(os.getpid(), 9)\n",
}


def functions(module: str) -> set[str]:
    nodes = ast.parse((ROOT / f"benchmarks/{module}.py").read_text(encoding="utf-8")).body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_every_benchmark_is_in_the_registry_and_each_rival_in_its_file() -> None:
    modules = {path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py")}
    assert {module for module in modules if "run" in functions(module)} == BENCHMARKS.keys()
    for rivals in BENCHMARKS.values():
        assert list(rivals)[-1] == ""  # which is part of any row's name
        for module, *function in (rival.split(".") for rival in rivals.values()):
            assert functions(module) >= set(function)


def test_the_page_is_made_from_the_figures() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    shown = page.split(BEGIN)[1].split(END)[0]
    assert shown.strip() == tables(read(ROOT / "docs/benchmarks.json")).strip(), (
        "run python -m benchmarks --page"
    )


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A tree with four tiny benchmarks, and the real files that run them."""
    package, docs = tmp_path / "benchmarks", tmp_path / "docs"
    package.mkdir()
    docs.mkdir()
    for name in ("__init__", "__main__", "alone", "machine", "page", "results", "registry"):
        shutil.copy(ROOT / f"benchmarks/{name}.py", package)
    for name, code in TINY.items():
        (package / f"{name}.py").write_text(f"from benchmarks.alone import row\n{code}")
    with (package / "registry.py").open("a") as file:
        file.write(f"BENCHMARKS = { ({name: {'': f'{name}.run'} for name in TINY}) }\n")
    (docs / "benchmarks.md").write_text(f"before\n{BEGIN}old\n{END}after\n")
    return tmp_path


def bench(tree: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks", *words]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, env=environment)


def test_a_failure_is_a_row_and_the_same_command_runs_what_is_missing(tiny: Path) -> None:
    done = bench(tiny)
    assert done.returncode == 1
    assert "wrong: failed: AssertionError: the sides differ" in done.stdout
    assert "killed: failed: exit code -9" in done.stdout
    assert "nothing: nothing to do on this machine" in done.stdout
    found = {x["benchmark"]: x for x in read(tiny / "artifacts/bench.json")}
    assert list(found) == list(TINY)
    (first, _), machine = found["fine"]["rows"], found["fine"]["machine"]
    assert first == {"name": "a | b", "ours": 1, "theirs": 2, "ratio": 2, "target": 1.5, "unit": "s"}
    assert f"{len(os.sched_getaffinity(0))} cores" in machine
    assert "torch " in found["fine"]["libraries"]
    assert found["fine"]["load"] >= 0
    (tiny / "benchmarks/killed.py").write_text("def run(quick):\n    return []\n")
    again = bench(tiny)
    assert "2 of 4 are in artifacts/bench.json" in again.stdout
    assert "1/2 wrong: about" in again.stdout
    assert "fine" not in again.stdout.split("2/2 killed")[1]
    assert bench(tiny, "--only", "wrong", "--quick").returncode == 0
    kept = {(x["benchmark"], x["quick"]): "error" in x for x in read(tiny / "artifacts/bench.json")}
    assert kept == {(name, False): name == "wrong" for name in TINY} | {("wrong", True): False}

    other = {**found["fine"], "machine": "another", "rows": [{**first, "ours": None, "ratio": [2, 2500]}]}
    (tiny / "docs/benchmarks.json").write_text(json.dumps({"results": [other]}))
    assert bench(tiny, "--page").returncode == 0
    page = (tiny / "docs/benchmarks.md").read_text()
    assert page.startswith("before\n") and page.endswith("after\n")  # noqa: PT018
    link, date = "[`fine.run`](../benchmarks/fine.py)", f"{found['fine']['date'][:10]} | "
    assert f"| a \\| b | – | 2 s | 2 and 2,500 | {link} | {date}" in page.split("### another")[1]
    mine = page.split(f"### {machine}")[1]
    assert f"| a \\| b | 1 s | 2 s | 2 | {link} | {date}" in mine
    assert f"| limit | 3 MB | 4 MB | 1.33 (less is better) | {link} | {date}" in mine
    assert "killed" not in page
