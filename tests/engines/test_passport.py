"""A worker that would compute something else, or elsewhere, says so before it begins."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engines.passport import SOURCES, clear_marks, mark_in, passport
from pipeline.errors import RunError

ROOT = Path(__file__).parents[2]


def test_a_worker_like_the_command_is_accepted(tmp_path: Path) -> None:
    with passport([tmp_path / "out"]) as wanted:
        wanted.check()


def test_another_version_is_refused_by_name() -> None:
    with passport([]) as wanted:
        other = dataclasses.replace(wanted, versions=(("torch", "1.0"),))
        with pytest.raises(RunError, match=r"^the worker on \S+ has torch 2\S+, expected 1\.0 as where"):
            other.check()
        missing = dataclasses.replace(wanted, versions=(("no-such-package", "1.0"),))
        with pytest.raises(RunError, match=r"has no-such-package not at all, expected 1\.0"):
            missing.check()


def test_a_folder_that_is_not_shared_is_refused_by_name(tmp_path: Path) -> None:
    with passport([tmp_path]) as wanted:
        with pytest.raises(RunError, match=r"doesn't see the folder /nowhere \(No such file or directory\)"):
            dataclasses.replace(wanted, directory="/nowhere").check()
        with pytest.raises(RunError, match=r"doesn't see what is written into /nowhere; give a folder"):
            dataclasses.replace(wanted, marks=("/nowhere/mark",)).check()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_command_left_is_removed_by_the_next(tmp_path: Path) -> None:
    code = "from pipeline.engines.passport import *; p = passport([Path()]); p.__enter__(); os.abort()"
    environment = {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    (left,) = tmp_path.iterdir()
    with passport([tmp_path]) as first, passport([tmp_path]) as second:
        assert not left.exists()
        first.check()
        second.check()
    assert not list(tmp_path.iterdir())
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    clear_marks(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_commands_of_other_machines_left_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their numbers say nothing here."""
    for number, machine in enumerate(("gpu-west", "gpu-1", "gpu")):
        monkeypatch.setattr("socket.gethostname", lambda machine=machine: machine)
        (tmp_path / f"{mark_in(tmp_path).name.replace(str(os.getpid()), '4194305')}").touch()
        assert len(list(tmp_path.iterdir())) == number + 1
    clear_marks(tmp_path)
    left = {path.name.partition("-4194305-")[0] for path in tmp_path.iterdir()}
    assert left == {".seen-gpu-west", ".seen-gpu-1"}


def test_another_commit_is_seen_in_the_sources(tmp_path: Path) -> None:
    """Two checkouts have the same version number; one changed character is enough."""
    for room in ("cache", "pipeline"):
        shutil.copytree(
            ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("*.safetensors", "__pyc*")
        )
    code = "from pipeline.engines.passport import SOURCES, version_of; print(version_of(SOURCES))"

    def digest() -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.strip()

    with passport([]) as wanted:
        here = dict(wanted.versions)[SOURCES]
    assert digest() == here
    with (tmp_path / "pipeline/errors.py").open("a") as file:
        file.write("\n")
    assert digest() != here
