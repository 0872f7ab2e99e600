"""Repeat, rename and remove runs."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.errors import ConfigError, RunError
from pipeline.runs import leaderboard
from pipeline.runs.claim import held
from pipeline.runs.layout import CONFIG, LEADERBOARD
from pipeline.runs.ledger import entries, run_in, runs_above
from pipeline.wording import slug

OTHERWISE = "stop it first"


def rerun(words: Sequence[str], program: str) -> int:
    """Train a run again with its own settings and the flags behind it. Returns the exit code of training.

    Raises: ConfigError when no run is named; RunError when it is none of training, or can't be read.
    """
    from pipeline.cli import COMMANDS, main  # which knows every stage

    if not words or words[0].startswith("-"):
        raise ConfigError(f"rerun: expected a run and flags of train_head.py: {program} rerun RUN --lr 0.05")
    folder, flags = Path(words[0]), list(words[1:])
    run_in(folder)
    if not any(word.partition("=")[0] == "--out" for word in flags):
        flags += ["--out", str(_beside(folder, flags or ["again"]))]
    sys.argv = [f"{program} rerun", "--config", str(folder / CONFIG), *flags]
    return main(*COMMANDS["train"])


def _beside(folder: Path, words: Sequence[str]) -> Path:
    """A folder named after a run and some words; beside the sweep if it is part of one."""
    names, top = [folder.name], folder
    while board_above(top):
        top = top.parent
        names.insert(0, top.name)
    return top.with_name(slug(*names, *words))


def rename(folder: Path, to: Path) -> str:
    """Move a run or a sweep; gives a line. Raises: RunError when it is part of a sweep, a process trains
    it, or `to` is there."""
    run_in(folder)
    if board_above(folder):
        raise RunError(f"{folder}: part of {folder.parent}, whose leaderboard names it; rename that folder")
    if to.exists():
        raise RunError(f"{to}: is there already; give another name")
    with _unused(folder):
        to.parent.mkdir(parents=True, exist_ok=True)
        os.rename(folder, to)
    return f"{folder} → {to}"


def remove(folder: Path) -> str:
    """Remove a run, and its lines from the leaderboards above it; gives a line.

    Raises: RunError when it isn't one, or a process trains it, or what it is part of.
    """
    run_in(folder)
    with _unused(folder):
        shutil.rmtree(folder)
        above, name = board_above(folder), folder.name
        changed = []
        while above:
            left = [head for head in leaderboard.read(above) if _outside(head["folder"], name)]
            changed.append(str(above / LEADERBOARD))
            if left:
                leaderboard.write(above, left)
            else:
                (above / LEADERBOARD).unlink()
            name, above = f"{above.name}/{name}", board_above(above)
    return f"{folder}: removed" + (f", and from {', '.join(changed)}" if changed else "")


@contextlib.contextmanager
def _unused(folder: Path) -> Iterator[None]:
    """Keep everybody from training a run, and the stack and the sweep that it is part of.

    Raises: RunError when a process trains one of them, or a group or a head of it.
    """
    for entry in entries(folder):
        if entry.state == "running":
            raise RunError(f"{entry.folder}: another process is training it; wait for it, or {OTHERWISE}")
    with held(folder, *runs_above(folder), otherwise=OTHERWISE):
        yield


def board_above(folder: Path) -> Path | None:
    """The folder of the leaderboard that lists a run."""
    parent = folder.absolute().parent
    return parent if (parent / LEADERBOARD).exists() else None


def _outside(listed: str, name: str) -> bool:
    return listed != name and not listed.startswith(f"{name}/")
