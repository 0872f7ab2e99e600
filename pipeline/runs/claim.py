"""Whose a run folder is: made for a run, found to hold that run or another one, held while it trains."""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.checks import flag
from pipeline.errors import RunError
from pipeline.files import read_json, write_json
from pipeline.runs import folder as runs

IMMATERIAL = {
    "out",
    "cache",
    "cache_identity",
    "resume",
    "verify",
    "memory_budget_mb",
    "device",
    "versions",
    "train_images",
}
"""Settings that don't decide what a run learns. The cache counts by its key."""
FACTS = {
    "cache_key": "key",
    "labels_sha256": "labels",
    "map_shape": "maps",
    "class_names": "classes",
    "train_maps": "number of maps",
}
"""What decides what a run learns, and no flag says: it follows from the cache."""
DERIVED = {"labels_sha256", "map_shape", "class_names", "multi_label", "train_maps"}
"""Differs only along with a setting that says more, unless the cache was given other labels."""


def claim(run_dir: Path, wanted: dict[str, Any]) -> bool:
    """Make the folder of a run with this config.json, or find it made; gives whether the run is finished.

    Raises: RunError as `check`, and when the folder can't be made.
    """
    if check(run_dir, wanted):
        return finished(run_dir)
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run_dir}: can't be made: {error.strerror}; give another --out") from error
    write_json(run_dir / "config.json", wanted)
    return False


def check(run_dir: Path, wanted: dict[str, Any]) -> bool:
    """Whether the folder holds the run with this config.json; changes nothing.

    Raises: RunError naming the settings that differ from those of the run that is there; when it is a sweep.
    """
    path = run_dir / "config.json"
    if not path.exists():
        return False
    there = read_json(path)
    if "groups" in there:
        raise RunError(f"{run_dir}: holds a sweep over several shapes; give another --out")
    if (stage := there.get("stage", wanted["stage"])) != wanted["stage"]:
        raise RunError(f"{run_dir}: holds what the stage {stage!r} made; give another --out")
    found = runs.head_config(run_dir)
    asked = {n: value for n, value in wanted.items() if n not in IMMATERIAL} | runs.GONE
    if names := [n for n in asked if found.get(n) != asked[n]]:
        told = [n for n in names if n not in DERIVED] or names
        differing = "; ".join(f"{_named(n)} {_short(found.get(n))}, not {_short(asked[n])}" for n in told)
        raise RunError(f"{run_dir}: holds a run made with {differing}; give another --out")
    return True


def finished(run_dir: Path) -> bool:
    """Whether the run that the folder holds is whole. Of a sweep's heads some may have no weights any more:
    an ablation keeps those that it scored.
    """
    if (run_dir / runs.LEADERBOARD).exists():
        heads = read_json(run_dir / runs.LEADERBOARD).get("heads") or [{}]
        return all("folder" in h and (run_dir / h["folder"] / "summary.json").exists() for h in heads)
    return (run_dir / "summary.json").exists() and (run_dir / runs.HEAD).exists()


@contextlib.contextmanager
def held(run_dir: Path) -> Iterator[None]:
    """While it lasts nobody else trains into the folder; it ends with the process. Raises: RunError."""
    folder = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"{run_dir}: another process is training into it; wait for it, or give another --out"
            ) from None
        except OSError:  # some network file systems can't lock a folder
            pass
        yield
    finally:
        os.close(folder)


def _named(setting: str) -> str:
    """A setting in a message: its flag, or what it says of the cache."""
    return f"a --cache with the {FACTS[setting]}" if setting in FACTS else flag(setting)


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    if re.fullmatch("[0-9a-f]{32,}", text):  # a digest, shortened as in what training prints
        return text[:12]
    return (text if len(text) <= 60 else text[:57] + "...") or "unset"
