"""The direction of imports: cache ← pipeline, and torch only behind the flags."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "torchmetrics", "sklearn", "scipy", "matplotlib", "pandas"}
CACHE_NEEDS = {"cache", "h5py", "numpy", "xxhash"}
# Everything that is loaded before the flags are parsed, and the scripts themselves.
BEFORE_FLAGS = [
    "pipeline.cli",
    "experiments.attention.config",
    "experiments.crops.config",
    "pipeline.config",
    "pipeline.errors",
    "pipeline.checks",
    "pipeline.datasets",
    "pipeline.heads",
    "pipeline.trunks",
]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))


def imported_names(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." if node.level else str(node.module).split(".")[0])
    return names


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in sys.modules after a statement in a fresh interpreter."""
    code = f"{statement}; import sys; print(*{{name.split('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("path", sorted((ROOT / "cache").rglob("*.py")), ids=lambda path: path.name)
def test_cache_imports_the_standard_library_and_three_packages(path: Path) -> None:
    assert imported_names(path) <= CACHE_NEEDS | sys.stdlib_module_names


def test_importing_cache_loads_neither_torch_nor_the_pipeline() -> None:
    loaded = loaded_by("import cache, cache.__main__")
    assert "h5py" in loaded
    assert not loaded & (HEAVY | {"pipeline"})


@pytest.mark.parametrize("path", sorted((ROOT / "cache").glob("*.py")), ids=lambda path: path.name)
def test_only_format_spells_the_names_of_datasets(path: Path) -> None:
    """The others take them from its constants, so that a change of name is one line."""
    names = {"header_digest", "image_digests", "provenance"}  # the ones that aren't everyday words
    tree = ast.parse(path.read_text(encoding="utf-8"))
    spelled = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & names
    assert bool(spelled) == (path.name == "format.py")


@pytest.mark.parametrize("module", BEFORE_FLAGS)
def test_what_is_loaded_before_the_flags_is_light(module: str) -> None:
    assert not loaded_by(f"import {module}") & HEAVY


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_do_nothing_and_load_nothing_heavy_when_imported(script: str) -> None:
    assert not loaded_by(f"import {script.removesuffix('.py')}") & HEAVY


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_loads_nothing_heavy(script: str) -> None:
    command = [sys.executable, "-X", "importtime", script, "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert script in done.stdout
    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "tyro" in loaded
    assert not loaded & HEAVY


def test_no_file_of_the_pipeline_reaches_into_the_cache_s_format() -> None:
    """Offsets, digests and locks are the cache's own affair."""
    public = {"cache", "cache.dtypes", "cache.errors", "cache.identity"}
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "cache":
                assert node.module in public, f"{path} imports from {node.module}"
