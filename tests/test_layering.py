"""The direction of imports: cache ← pipeline, rooms in the order of the data, torch only behind the flags."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "torchmetrics", "sklearn", "scipy", "matplotlib", "pandas"}
CACHE_NEEDS = {"cache", "h5py", "numpy", "xxhash"}
CACHE_MAY_NEED = {
    "torch_files": {"torch"},
    "hub_folder": {"datasets"},
    "drivers": {"fsspec", "aiohttp"},
}  # where such a file is read or written
# Everything that is loaded before the flags are parsed, and the scripts themselves.
BEFORE_FLAGS = [
    "pipeline",
    "pipeline.cli",
    "experiments.attention.config",
    "experiments.crops.config",
    "pipeline.config",
    "pipeline.errors",
    "pipeline.checks",
    "pipeline.wording",
    "pipeline.datasets",
    "pipeline.engines.executors",
    "pipeline.heads",
    "pipeline.heads.settings",
    "pipeline.trunks",
]
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))

# Each room, from low to high, and what it may import besides itself.
BASE = {"cache", "errors", "checks", "wording", "files", "device", "progress"}
TABLES = {
    "datasets/__init__",
    "trunks/__init__",
    "trunks/spec",
    "heads/__init__",
    "heads/settings",
    "engines/executors",
    "runs/trackers",
}
ROOMS = {
    "errors": {"cache"},
    "wording": set(),
    "checks": {"errors", "wording"},
    "files": {"cache", "errors"},
    "progress": set(),
    "device": {"errors"},
    "config": {"errors", "checks", "wording"} | TABLES,
    "engines": BASE,
    "datasets": BASE | {"images"},  # what an image's bytes hold; images know of splits in turn
    "kernels": BASE,
    "metrics": BASE,
    "images": BASE | {"config", "engines", "datasets"},
    "trunks": BASE | {"images", "kernels"},
    "extraction": BASE | {"config", "engines", "datasets", "images", "trunks"},
    "maps": BASE | {"config", "engines", "datasets", "images", "kernels"},
    "heads": BASE | {"kernels", "maps", "metrics"},
    "runs": BASE | {"config", "cli", "datasets", "maps", "heads", "metrics"},
    "training": BASE | {"config", "engines", "datasets", "kernels", "maps", "heads", "runs", "metrics"},
    "pretraining": BASE | {"config", "engines", "datasets", "images", "trunks", "runs", "training"},
    "evaluation": BASE
    | {"config", "datasets", "images", "trunks", "extraction", "maps", "heads", "runs", "metrics"}
    | {"pretraining"},
    "prediction": BASE
    | {
        "config",
        "datasets",
        "images",
        "trunks",
        "extraction",
        "maps",
        "heads",
        "runs",
        "metrics",
        "evaluation",
    },
    "comparison": BASE | {"config", "datasets", "trunks", "extraction", "training", "runs", "metrics"},
    "report": BASE | {"__init__", "config", "datasets", "images", "maps", "runs", "metrics", "evaluation"},
    "estimators": BASE | {"config", "maps", "heads", "runs", "training"},
    "export": BASE | {"config", "images", "trunks", "maps", "heads", "runs", "__init__"},
    "chain": {"config", "extraction", "training", "evaluation"},
    "cli": {"__init__", "config", "errors", "checks", "wording", "files", "progress", "cache"},
    "__init__": set(),
}


def sources(*packages: str) -> dict[str, Path]:
    """Dotted name → file, of the modules and packages below."""
    found = {}
    for path in sorted(path for package in packages for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below that is run at some time, inside functions too: not what only type checkers see."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from executed(child)


def imported_modules(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules among the known that a file imports: of `from a import b`, a.b if that is one, else a."""
    names: set[str] = set()
    for node in executed(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in known else node.module for name in whole}
    return names & known.keys()


def room(path: Path) -> str:
    """The room of a file: its folder in pipeline/, its own name there, or its package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] != "pipeline" else parts[1]


def imported_names(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere, inside functions too; not for type checkers alone."""
    names: set[str] = set()
    for node in executed(ast.parse(path.read_text(encoding="utf-8"))):
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


def test_no_file_imports_one_that_imports_it_by_whatever_way() -> None:
    """Imports inside functions count: they hide a circle, they don't open it."""
    known = sources("cache", "pipeline", "experiments")
    graph = {name: imported_modules(path, known) - {name} for name, path in known.items()}
    assert len(graph) > 60
    assert sum(map(len, graph.values())) > 200
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


def test_rooms_import_in_the_direction_of_the_data() -> None:
    known = sources("cache", "pipeline")
    against: dict[tuple[str, str], list[str]] = {}
    for name, path in sources("pipeline").items():
        for other in imported_modules(path, known):
            pair = room(path), room(known[other])
            file = f"{pair[1]}/{known[other].stem}"
            if not {pair[1], file} & (ROOMS[pair[0]] | {pair[0]}):
                against.setdefault(pair, []).append(f"{name} → {other}")
    assert against == {}


def test_every_room_has_its_place_and_few_files_lie_outside_a_room() -> None:
    assert {room(path) for path in sources("pipeline").values()} == set(ROOMS)
    assert len([path for path in (ROOT / "pipeline").glob("*.py") if path.name != "__init__.py"]) <= 6


@pytest.mark.parametrize("path", sorted((ROOT / "cache").rglob("*.py")), ids=lambda path: path.name)
def test_cache_imports_the_standard_library_and_three_packages(path: Path) -> None:
    assert (
        imported_names(path) <= CACHE_NEEDS | CACHE_MAY_NEED.get(path.stem, set()) | sys.stdlib_module_names
    )


def test_importing_cache_loads_neither_torch_nor_the_pipeline() -> None:
    loaded = loaded_by("import cache, cache.__main__")
    assert "h5py" in loaded
    assert not loaded & (HEAVY | {"pipeline"})


@pytest.mark.parametrize("path", sorted((ROOT / "cache").glob("*.py")), ids=lambda path: path.name)
def test_only_format_spells_the_names_of_datasets(path: Path) -> None:
    """The others take them from its constants, so that a change of name is one line."""
    names = {"header_digests", "image_digests", "provenance"}  # the ones that aren't everyday words
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
    assert done.stdout.startswith(f"usage: {script} ")
    modules = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    loaded = {name.split(".")[0] for name in modules}
    assert "argparse" in loaded
    assert "pipeline.config.compare_trunks" not in modules or script == "compare_trunks.py"
    assert not loaded & (HEAVY | {"h5py", "numpy"})


def test_no_file_of_the_pipeline_reaches_into_the_cache_s_format() -> None:
    """Offsets, digests and locks are the cache's own affair."""
    public = {"cache"} | {
        f"cache.{name}" for name in ("dtypes", "errors", "identity", "remote", "drivers", "whole_files")
    }
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "cache":
                assert node.module in public, f"{path} imports from {node.module}"
