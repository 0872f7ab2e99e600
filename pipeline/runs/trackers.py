"""Trackers of experiments: TensorBoard, MLflow, or any other behind the same three calls.

    train_head.py --log mlflow
    train_head.py --log mine.py:Tracker

A tracker is made for each head, with the head's folder. Nothing is imported before it is asked for.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Protocol, cast

from pipeline.checks import OneOf
from pipeline.errors import ConfigError, needs_extra
from pipeline.wording import did_you_mean, short


class Tracker(Protocol):
    """What is told of one head. Whatever it raises is a warning and not the end of training.

    A run that goes on, by --resume or an evaluation, is told from its first step on once more: a step that
    is known already counts once.
    """

    def start(self, config: Mapping[str, Any]) -> None:
        """Take the settings: names and numbers or words. Once, before all else."""
        ...

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take figures of a step: an epoch, from 1 on, or a setting that was tried."""
        ...

    def end(self, state: str) -> None:
        """Close: the head is finished, diverged, interrupted or failed."""
        ...


class TrackerInfo(NamedTuple):
    """All that is known of a tracker before its module is imported."""

    summary: str
    """What --help says."""
    target: str
    """Its class, as "module:class"."""


TRACKERS = {
    "tensorboard": TrackerInfo(
        "event files in RUN/tensorboard, for tensorboard --logdir", "pipeline.runs.tensorboard_events:Events"
    ),
    "mlflow": TrackerInfo(
        "a run of MLflow for each head, in MLFLOW_TRACKING_URI or else the folder mlruns",
        "pipeline.runs.mlflow_run:MLflowRun",
    ),
}
"""Every tracker by the name that --log takes, which is that of the extra too that brings its package."""


class TrackerNames(OneOf):
    """One of the trackers, or code of one's own: PATH.py:CLASS or MODULE:CLASS."""

    def __contains__(self, value: str) -> bool:
        return value in self.choices or all(value.rpartition(":"))

    def refusal(self, value: Any) -> str:
        """What was expected instead of a value that is none of them."""
        names = ", ".join(self.choices)
        return f"expected {names}, or FILE.py:CLASS, found {short(value)}{did_you_mean(value, self.choices)}"


TRACKER_NAMES = TrackerNames(TRACKERS)


def load_tracker(name: str) -> Callable[[Path], Tracker]:
    """What makes a tracker of a head's folder. Raises: ConfigError when it, or a package, is missing."""
    info = TRACKERS.get(name)
    place, _, made_by = (info.target if info else name).rpartition(":")
    with needs_extra(f"--log {name}", name) if info else nullcontext():
        module = importlib.import_module(place) if info else _own(place)
    found = getattr(module, made_by, None)
    if not callable(found):
        raise ConfigError(f"--log: {place} has no class {made_by!r}{did_you_mean(made_by, vars(module))}")
    return cast("Callable[[Path], Tracker]", found)


def _own(place: str) -> ModuleType:
    """A user's module. Raises: ConfigError."""
    path = Path(place)
    with _importing_from(path.resolve().parent if place.endswith(".py") else Path.cwd()):
        try:
            if not place.endswith(".py"):
                return importlib.import_module(place)
            spec = importlib.util.spec_from_file_location(path.stem, path)
            if spec is None or spec.loader is None:
                raise ImportError("no Python code")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        except Exception as error:  # whatever the code does
            raise ConfigError(
                f"--log: {place}: can't be imported: {type(error).__name__}: {error}"
            ) from error
    return module


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, os.fspath(folder))
    try:
        yield
    finally:
        sys.path.remove(os.fspath(folder))
