"""What `pip install .` gives: every module, what they read, one console command, and a clone still clean."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import pipeline

ROOT = Path(__file__).parents[1]
PACKAGES = ("cache", "pipeline")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what the package is built from, since building writes beside it."""
    folder = tmp_path_factory.mktemp("clone")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package is installed into, without a network."""
    if not (find_spec("pip") and find_spec("setuptools")):
        pytest.skip("pip and setuptools are needed to build without a network")
    target = tmp_path_factory.mktemp("site")
    flags = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--no-compile")
    command = [sys.executable, "-m", "pip", "install", *flags, "--target", target, source]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def tencrop(installed: Path, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the installed command where no clone is."""
    command = [sys.executable, installed / "bin" / "tencrop", *words]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_every_file_of_the_packages_is_installed(source: Path, installed: Path) -> None:
    for name in PACKAGES:
        files = {path.relative_to(source) for path in (source / name).rglob("*") if path.is_file()}
        assert len(files) > 10
        assert {file for file in files if not (installed / file).exists()} == set()
        assert (installed / name / "py.typed").exists()
    assert [path.name for path in (installed / "bin").iterdir()] == ["tencrop"]


def test_the_version_has_one_source(installed: Path, tmp_path: Path) -> None:
    assert (installed / f"ten_crop_cache-{pipeline.__version__}.dist-info").is_dir()
    assert tencrop(installed, "--version", cwd=tmp_path).stdout == f"tencrop {pipeline.__version__}\n"


def test_building_leaves_nothing_that_git_does_not_ignore(source: Path, installed: Path) -> None:
    made = {path.name for path in source.iterdir()} - {*PACKAGES, "pyproject.toml", "README.md", "LICENSE"}
    assert made
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is no clone")
    command = ["git", "check-ignore", *(f"{name}/" for name in made)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert {line.rstrip("/") for line in done.stdout.splitlines()} == made


def test_the_installed_command_goes_from_images_to_a_checked_cache(installed: Path, tmp_path: Path) -> None:
    done = tencrop(installed, "extract", "--cache", "c", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = tencrop(installed, "cache", "verify", "c", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.partition(" ")[0] for line in done.stdout.splitlines()] == ["c/test.h5:", "c/train.h5:"]


def test_the_public_names_are_there_with_their_docstrings() -> None:
    assert set(pipeline.__all__) <= set(dir(pipeline))
    for name in pipeline.__all__:
        documented = getattr(pipeline, name).__doc__
        assert documented
        assert documented.splitlines()[0].endswith((".", "?"))
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'extrct'"):
        _ = pipeline.extrct  # pyright: ignore[reportAttributeAccessIssue]


def test_the_stages_are_the_functions_of_their_rooms() -> None:
    from pipeline.evaluation.stage import evaluate
    from pipeline.extraction.stage import extract
    from pipeline.prediction.stage import predict
    from pipeline.pretraining.stage import pretrain
    from pipeline.training.sweep import sweep

    found = (pipeline.evaluate, pipeline.extract, pipeline.predict, pipeline.pretrain, pipeline.train_heads)
    assert found == (evaluate, extract, predict, pretrain, sweep)
