"""Whose a run folder is: claimed for a run, found to hold that run or another one, held while it trains."""

import contextlib
import errno
import fcntl
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.files import read_json
from pipeline.runs import leaderboard
from pipeline.runs.layout import CONFIG, HEAD, LEADERBOARD, SUMMARY, read_config, write_config
from pipeline.runs.ranking import SHARED
from pipeline.wording import flag

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF)
"""What a file system without locks says, as Lustre by default; the last one is NFS's, of folders."""
IMMATERIAL = (
    *("out", "cache", "stage", "resume", "verify", "memory_budget_mb", "device", "products", "versions"),
    *("cache_path", "cache_from_run", "init", "log"),
    *("dataset", "cache_identity", "map_shape", "multi_label", "train_images", "train_maps"),
)
"""Settings that don't decide what a run learns, and facts that follow from those below."""
FACTS = {
    "cache_key": "a --cache with the key",
    "cache_images": "a --cache with the images",
    "labels_sha256": "a --cache with the labels",
    "class_names": "a --cache with the classes",
    "dataset_images": "a --dataset with the images",
    "dataset_labels": "a --dataset with the labels",
    "held_out": "held-out images",
    "weights_sha256": "--weights with the digest",
    "init_sha256": "--init with the head",
}
"""What decides what a run learns and is not a setting, in words: the contents behind a path."""


def claim(run_dir: Path, wanted: Mapping[str, Any], immaterial: Sequence[str] = IMMATERIAL) -> bool:
    """Make the folder of the run that config.json describes so, or find it made; True: the run is finished.

    A run that differs in nothing but `immaterial` settings is the same.

    Raises: RunError as `check`, and when the folder can't be made.
    """
    if check(run_dir, wanted, immaterial):
        return finished(run_dir)
    make_folder(run_dir)
    write_config(run_dir, wanted)
    return False


def groups_beside(run_dir: Path, wanted: Mapping[str, Any]) -> list[str]:
    """The groups that a sweep's folder has, to which others can be added that config.json describes so.

    Raises: RunError when it holds something else, or a group, finished or not, whose scores are of other maps
    or images.
    """
    found = read_config(run_dir, "train") if (run_dir / CONFIG).exists() else {"groups": []}
    if "groups" not in found:
        raise RunError(f"{run_dir}: holds the run of a single group; give another --out")
    names = [str(name) for name in found["groups"]]
    for name in names:
        if not (run_dir / name / CONFIG).exists():  # it failed before it began, or was removed
            continue
        own = read_config(run_dir / name, "train")
        chosen = ["classes"] if own.get("class_names") != wanted["class_names"] else []
        if made := _differences(own, wanted, [*SHARED, *chosen]):
            raise RunError(
                f"{run_dir}: can't rank these heads beside {name}, which was made with {made}; give another "
                "--out"
            )
    return names


def check(run_dir: Path, wanted: Mapping[str, Any], immaterial: Sequence[str] = IMMATERIAL) -> bool:
    """Whether the folder holds the run that config.json describes so; changes nothing.

    Raises: RunError naming the settings that differ from those of the run that is there; when it is a sweep.
    """
    if not (run_dir / CONFIG).exists():
        return False
    found = read_config(run_dir, wanted["stage"])
    if "groups" in found:
        raise RunError(f"{run_dir}: holds a sweep over several groups; give another --out")
    if made := _differences(found, wanted, [name for name in wanted if name not in immaterial]):
        raise RunError(f"{run_dir}: holds a run made with {made}; give another --out")
    return True


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any], names: Iterable[str]) -> str:
    """In which of these fields of config.json a run differs from the wanted one, in words."""
    differ = [n for n in names if n not in found or found[n] != wanted[n]]
    # Labels and classes differ along with a setting that says more, unless the cache was relabelled; so
    # do the images of a dataset, and those of a cache along with its key.
    follow = {"labels_sha256", "class_names", "dataset_images", "dataset_labels", "held_out"}
    follow |= {"cache_images"} if "cache_key" in differ else set()
    told = [name for name in differ if name not in follow] or differ
    return "; ".join(f"{_named(n)} {_short(found.get(n))}, not {_short(wanted[n])}" for n in told)


def make_folder(run_dir: Path) -> None:
    """Raises: RunError when the folder can't be made."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run_dir}: can't be made: {error.strerror}; give another --out") from error


def finished(run_dir: Path) -> bool:
    """Whether the run in the folder is whole. Some heads of a sweep may have lost their weights: an ablation
    keeps only those that it scored."""
    if (run_dir / LEADERBOARD).exists():
        if not leaderboard.are_scored(read_json(run_dir / LEADERBOARD).get("heads")):
            return False  # training makes another
        return all((run_dir / head["folder"] / SUMMARY).exists() for head in leaderboard.read(run_dir))
    return (run_dir / SUMMARY).exists() and (run_dir / HEAD).exists()


@contextlib.contextmanager
def held(run_dir: Path, *above: Path, otherwise: str = "give another --out") -> Iterator[None]:
    """Keep everybody else from training into the folder, and into those above it; it ends with the process.

    Raises: RunError, which says what to do `otherwise` than to wait.
    """
    with contextlib.ExitStack() as opened:
        for folder in (run_dir, *above):
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            opened.callback(os.close, fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"{folder}: another process is training into it; wait for it, or {otherwise}"
                ) from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise RunError(
                        f"{folder}: can't be locked: {error.strerror}; fix that, then run it again"
                    ) from error
                print(f"{folder}: this file system has no locks; don't train into it twice at a time")
                break
        yield


def _named(setting: str) -> str:
    """A setting in a message: its flag, or the fact."""
    return FACTS.get(setting) or flag(setting)


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    if re.fullmatch("[0-9a-f]{32,}", text):  # a digest, shortened as in training's output
        return text[:12]
    return (text if len(text) <= 60 else text[:57] + "...") or "unset"
