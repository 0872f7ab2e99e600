"""Every run under some folders: what it was made from, how it scored, and whether it ended.

Only JSON files and names are read, and neither torch nor a cache is opened, so that a thousand runs take part
of a second. A folder that can't be read is an entry as well: it ends nothing.
"""

import errno
import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.datasets import name_of_dataset
from pipeline.errors import RunError
from pipeline.files import read_bytes, read_json
from pipeline.runs.layout import CONFIG, HEAD, LEADERBOARD, METRICS, SUMMARY, TRUNK, checked_config
from pipeline.runs.score import score_in

NOT_SETTINGS = {
    *("stage", "out", "cache", "cache_path", "cache_from_run", "cache_identity", "class_names", "versions"),
    *("products", "device", "decoders", "workers", "resume", "verify", "memory_budget_mb", "jobs", "groups"),
    *("engine", "log"),
    *("labels_sha256", "cache_key", "cache_images", "dataset_images", "dataset_labels", "train_maps"),
    *("dataset", "head", "crops", "trunk"),
}
"""Fields of config.json that have columns of their own, or don't decide what a run learns."""


class Entry(NamedTuple):
    """A run, or a folder that should be one."""

    folder: Path
    state: str
    """finished, running, interrupted, diverged, or broken."""
    facts: dict[str, Any]
    """Column → value: dataset, trunk, head, crops, score (per cent), low, high, images, loss (these
    five of validation), test, mb, seconds;
    `problem` of a broken one."""
    settings: dict[str, Any]
    """The other settings in config.json."""


def entries(folder: Path) -> Iterator[Entry]:
    """The runs in a folder and below it, by name. Raises: RunError if it can't be read."""
    try:
        with os.scandir(folder) as found:
            items = sorted(found, key=lambda item: item.name)
    except OSError as error:
        raise RunError(f"{folder}: can't be read: {error.strerror}; name another folder") from error
    names = {item.name for item in items}
    below = [item.name for item in items if item.is_dir(follow_symlinks=False) and item.name[0] != "."]
    is_run, inside = CONFIG in names, 0
    for name in below:
        if not (is_run and name.startswith("eval")):
            for entry in _tolerant(folder / name):
                inside += 1
                yield entry
    # a sweep and a stack are listed by their heads, until they have some
    if is_run and (SUMMARY in names or not inside) and (entry := _entry(folder)):
        yield entry


def _tolerant(folder: Path) -> Iterator[Entry]:
    try:
        yield from entries(folder)
    except RunError as error:
        yield Entry(folder, "broken", {"problem": str(error)}, {})


def run_in(folder: Path) -> Entry:
    """The run in a folder. Raises: RunError when there is none."""
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder}: no run there; tencrop runs lists them")
    return entry_of(folder)


def entry_of(folder: Path) -> Entry:
    """What is known of one run."""
    return _entry(folder) or Entry(folder, "broken", {"problem": f"{folder / CONFIG}: not a run's"}, {})


def _entry(folder: Path) -> Entry | None:
    """What is known of one run; None where config.json is somebody else's: a JSON object, but with nothing of
    ours in it."""
    try:
        found = read_json(folder / CONFIG)
        if "stage" not in found:
            return None
        config = checked_config(folder, found, "train", "pretrain")
        summary = read_json(folder / SUMMARY) if (folder / SUMMARY).exists() else {}
        facts = {**_made_from(config), **_scored(folder, summary)}
    except (RunError, TypeError, AttributeError, KeyError, ValueError) as error:
        text = str(error) if isinstance(error, RunError) else f"{folder / CONFIG}: not a run's ({error})"
        return Entry(folder, "broken", {"problem": text}, {})
    settings = {name: value for name, value in config.items() if name not in NOT_SETTINGS}
    return Entry(folder, _state(folder, summary, config["stage"]), facts, settings)


def _made_from(config: dict[str, Any]) -> dict[str, Any]:
    identity = config.get("cache_identity") or {}
    trunk = identity.get("trunk") or {"name": config.get("trunk")}
    layer = f"@{trunk['layer']}" if trunk.get("layer") and "@" not in str(trunk.get("name")) else ""
    head = config.get("head", "whole network" if config["stage"] == "pretrain" else None)
    dataset = name_of_dataset(config["dataset"]) if config.get("dataset") else Path(config["cache"]).name
    return {
        "dataset": dataset,
        "trunk": f"{trunk.get('name')}{layer}",
        "head": " ".join(head) if isinstance(head, list) else head,
        "crops": " ".join(config["crops"]) if isinstance(config.get("crops"), list) else config.get("crops"),
    }


def _scored(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    key = score_in(summary).key
    low, high = (_number(summary.get(f"{key}_{end}")) for end in ("low", "high"))
    path, test = folder / "eval" / "metrics.json", None
    if path.exists():
        metrics = read_json(path)
        test = _number(metrics.get("map" if key == "val_map" else "top1"))
    return {
        "metric": "mAP" if key == "val_map" else "top-1",
        "score": _number(summary.get(key)),
        "low": low,
        "high": high,
        "images": summary.get("val_images"),
        "loss": _number(summary.get("val_loss")),
        "test": test,
        "mb": _megabytes(folder / HEAD),
        "seconds": _number(summary.get("seconds")),
    }


def _megabytes(path: Path) -> float | None:
    with suppress(OSError):
        return round(path.stat().st_size / 1e6, 3)
    return None


def _number(value: Any) -> float | None:
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_one else None


def _state(folder: Path, summary: dict[str, Any], stage: str) -> str:
    if summary.get("diverged"):
        return "diverged"
    if summary or (stage == "pretrain" and (folder / TRUNK).exists()):
        return "finished"
    if any(map(_is_held, [folder, *runs_above(folder)])):
        return "running"
    return "diverged" if _ends_without_a_loss(folder / METRICS) else "interrupted"


def _ends_without_a_loss(path: Path) -> bool:
    """Whether the last epoch's loss was not finite, which ended the run."""
    try:
        lines = read_bytes(path).splitlines() if path.exists() else []
        return bool(lines) and json.loads(lines[-1]).get("train_loss", 0.0) is None
    except (RunError, ValueError, AttributeError, RecursionError):
        return False


def runs_above(folder: Path) -> Iterator[Path]:
    """The folders of the stack and the sweep that a run is part of."""
    for parent in (*folder.parents, *(() if folder.is_absolute() else Path.cwd().parents)):
        if not any((parent / name).exists() for name in (CONFIG, LEADERBOARD)):
            return
        yield parent


def _is_held(folder: Path) -> bool:
    """Whether a process is training into a folder; no, where the file system has no locks."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EAGAIN)
    finally:
        os.close(fd)
    return False
