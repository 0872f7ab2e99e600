"""What a tracker is told of heads that train: their settings, metrics.jsonl line by line, and their scores.

A tracker that fails costs a line of warning and no training.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import RunError, UserError
from pipeline.files import read_bytes, read_json
from pipeline.progress import say
from pipeline.runs.layout import METRICS, SUMMARY
from pipeline.runs.ledger import entry_of
from pipeline.runs.listing import plain
from pipeline.runs.score import score_in
from pipeline.runs.trackers import TRACKERS, Tracker, load_tracker

MADE_FROM = ("dataset", "trunk", "head", "crops")


class Tracking:
    """The trackers of some heads, by their places; with none it does nothing."""

    def __init__(self, name: str | None, folders: Sequence[Path]) -> None:
        self.name, self.folders = name, folders
        self._open: dict[int, Tracker] = {}

    def begin(self) -> None:
        """Tell each tracker its head's settings, and the lines of metrics.jsonl that are there."""
        if self.name is not None:
            self._attempt(self._begin)

    def _begin(self) -> None:
        make = load_tracker(str(self.name))
        for m, folder in enumerate(self.folders):
            tracker = self._open[m] = make(folder)
            tracker.start(settings_of(folder))
            for step, line in enumerate(_lines(folder), 1):
                tracker.log(step, _figures(line))

    def log(self, m: int, step: int, line: Mapping[str, Any]) -> None:
        """Tell of a head's figures, those that are finite numbers."""
        if m in self._open:
            self._attempt(lambda: self._open[m].log(step, _figures(line)))

    def end(self, m: int, summary: Mapping[str, Any]) -> None:
        """Tell a finished head's validation score as best_…, at the epoch that had it, and close."""
        state = "diverged" if summary.get("diverged") else "finished"
        self.log(m, _best_step(self.folders[m], summary), _best(summary))
        self._close(m, state)

    def stop(self, state: str) -> None:
        """Close what is open yet."""
        for m in list(self._open):
            self._close(m, state)

    def _close(self, m: int, state: str) -> None:
        if tracker := self._open.pop(m, None):
            self._attempt(lambda: tracker.end(state))

    def _attempt(self, call: Callable[[], object]) -> None:
        """Call a tracker; once it fails, none is told any more."""
        try:
            call()
        except Exception as error:  # noqa: BLE001 - whatever a tracker does
            self._open.clear()
            say(f"warning: --log {self.name}: {_why(error)}; nothing more is logged")


def _why(error: Exception) -> str:
    """An error of anything, as a line."""
    why = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.strerror:
        why = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(why.split())[:400]


@contextmanager
def tracking(name: str | None, folders: Sequence[Path]) -> Iterator[Tracking]:
    """The trackers of some heads, closed in the end, however that is."""
    tracked = Tracking(name, folders)
    try:
        yield tracked
    except BaseException as error:
        tracked.stop("failed" if isinstance(error, Exception) else "interrupted")
        raise
    tracked.stop("finished")


def track_test(folder: Path, name: object, scores: Mapping[str, Any]) -> None:
    """Tell a run's tracker its test scores. Code of one's own isn't executed, for a run folder names it."""
    if name not in TRACKERS:
        return
    with tracking(str(name), [folder]) as tracked, suppress(RunError):
        summary = read_json(folder / SUMMARY)
        tracked.begin()
        found = {f"test_{key}": value for key, value in scores.items() if isinstance(value, float)}
        tracked.log(0, _best_step(folder, summary), found)
        tracked.end(0, summary)


def settings_of(folder: Path) -> dict[str, Any]:
    """A run's settings, without those that it leaves open: numbers, and all else in words."""
    entry = entry_of(folder)
    found = {**{name: entry.facts.get(name) for name in MADE_FROM}, **entry.settings, "run": str(folder)}
    singles = {n: v[0] if isinstance(v, list) and len(v) == 1 else v for n, v in found.items()}
    return {
        n: v if isinstance(v, int | float) else plain(v) for n, v in singles.items() if v not in (None, "")
    }


def _lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / METRICS
    return [json.loads(line) for line in read_bytes(path).splitlines()] if path.exists() else []


def _figures(line: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in line.items()
        if name != "epoch" and isinstance(value, int | float) and math.isfinite(value)
    }


def _best(summary: Mapping[str, Any]) -> dict[str, Any]:
    key = score_in(dict(summary)).key
    return {f"best_{name}": summary.get(name) for name in (key, "val_loss")}


def _best_step(folder: Path, summary: Mapping[str, Any]) -> int:
    """The epoch of a head's weights; of one that was computed at once, the last setting that was tried."""
    return int(summary.get("best_epoch") or len(_lines(folder)) or 1)
