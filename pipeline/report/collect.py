"""The runs that a report is about. Files that lead out of a run's folder are refused by name.

Values out of somebody's JSON may be anything: what has a place in the table is made a number or a text here.
"""

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.runs.draws import DRAWS
from pipeline.runs.layout import CONFIG, METRICS, SUMMARY
from pipeline.runs.ledger import Entry, entries
from pipeline.wording import short

READ = (CONFIG, SUMMARY, METRICS, DRAWS, "eval/metrics.json", "eval/predictions.npz", "eval/regions.json")
"""The files of a run that a report reads."""
NUMBERS = ("score", "low", "high", "images", "loss", "test", "mb", "seconds")


def collect(folders: Iterable[Path]) -> list[Entry]:
    """Every run in some folders, each once. Raises: RunError when a folder can't be read, or has none."""
    folders = list(folders)
    found = {os.path.realpath(entry.folder): entry for folder in folders for entry in entries(folder)}
    if not found:
        where = ", ".join(map(str, folders))
        raise RunError(f"{where}: no run there; name the folder that holds them, or make one: train_head.py")
    return [_tidy(entry) for entry in found.values()]


def _tidy(entry: Entry) -> Entry:
    try:
        for name in READ:
            own(entry.folder, name)
    except RunError as error:
        return Entry(entry.folder, "broken", {"problem": str(error)}, {})
    numbers = {name: number(entry.facts.get(name)) for name in NUMBERS}
    texts = {name: word(value) for name, value in entry.facts.items() if name not in NUMBERS}
    settings = {str(name): word(value) for name, value in list(entry.settings.items())[:200]}
    return Entry(entry.folder, entry.state, {**texts, **numbers}, settings)


def own(folder: Path, name: str) -> Path:
    """The path of a run's file. Raises: RunError when it is a link that leads out of the run's folder."""
    path = folder / name
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise RunError(f"{path}: leads out of the run's folder, to {os.path.realpath(path)}; not read")
    return path


def number(value: Any) -> float | None:
    """A finite number, or None for anything else."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300
    return float(value) if is_one and math.isfinite(value) else None


def word(value: Any) -> str | float | None:
    """A setting for the table: a number as it is, lists of a few with spaces, all else as text."""
    if value is None or value == "":
        return None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return " ".join(map(str, value[:20]))
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return {True: "yes", False: "no"}.get(value) if isinstance(value, bool) else short(value)
    return value if isinstance(value, str | int) or number(value) is not None else None


def labels_of(found: Iterable[Entry]) -> dict[Path, str]:
    """What each run is called: its folder as seen from the one that they are all in."""
    folders = [entry.folder for entry in found]
    parents = {str(folder.absolute().parent) for folder in folders}
    base = os.path.commonpath(parents)
    return {folder: os.path.relpath(folder.absolute(), base) for folder in folders}
