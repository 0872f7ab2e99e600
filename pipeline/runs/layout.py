"""The layout of run folders: the names of their files, and config.json.

    config.json             format, settings, the cache's key, classes, versions
    metrics.jsonl           a line per epoch, or per setting that was tried
    head.safetensors        the best epoch's weights, and the means and scales of the maps
    validation.npy          its score on draws of the validation images, see `pipeline.runs.score`
    summary.json            written last: a folder that has it holds a finished run
    checkpoint.safetensors  during training: all that --resume needs

A stack has a folder like this for each head, and leaderboard.json above them; so has a sweep over several
groups. Everything but metrics.jsonl is written under another name and renamed, so it is whole or not there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.files import read_json, write_json

FORMAT = 1
"""Version of all that a run folder holds. A folder of another one is refused."""
CONFIG = "config.json"
METRICS = "metrics.jsonl"
HEAD = "head.safetensors"
TRUNK = "trunk.safetensors"  # of a pretraining run
SUMMARY = "summary.json"
CHECKPOINT = "checkpoint.safetensors"
LEADERBOARD = "leaderboard.json"


def write_config(run_dir: Path, described: Mapping[str, Any]) -> None:
    """Write config.json; `described` holds the stage that makes the folder, and its settings."""
    write_json(run_dir / CONFIG, {"format": FORMAT, **described})


def read_config(run_dir: Path, *stages: str) -> dict[str, Any]:
    """Read config.json without its format.

    Raises: RunError when it is damaged, of another format or of none of these stages.
    """
    return checked_config(run_dir, read_json(run_dir / CONFIG), *stages)


def checked_config(run_dir: Path, found: Mapping[str, Any], *stages: str) -> dict[str, Any]:
    """What was read from config.json, without its format. Raises: RunError as `read_config`."""
    path = run_dir / CONFIG
    for name, expected in (("format", (FORMAT,)), ("stage", stages)):
        if (value := found.get(name)) not in expected:
            known = " or ".join(map(str, expected))
            raise RunError(
                f"{path}: expected the {name} {known}, found {value!r}; give another folder, or make it again"
            )
    return {name: value for name, value in found.items() if name != "format"}
