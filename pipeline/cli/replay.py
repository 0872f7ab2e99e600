"""Settings from a file: a JSON object with the names of flags, or what a run's config.json says of it."""

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline.checks import Checked, kinds
from pipeline.errors import ConfigError
from pipeline.files import read_json
from pipeline.wording import did_you_mean

STAGES = {"SweepConfig": "train", "TrainConfig": "train", "PretrainConfig": "pretrain"}
"""The stage that makes runs of a configuration."""
OF_PLACE = {"out", "stage", "resume", "memory_budget_mb", "log"}
"""Settings of a run that a repetition doesn't take over."""
EITHER = (("folds", "val_fraction"), ("hidden_shapes", "hidden"))
"""Of two settings that exclude each other a run's config.json may have both; the first counts."""


def settings_in(path: Path, config_class: type[Checked], given: Collection[str]) -> dict[str, Any]:
    """The settings in a file, as `from_json` takes them. `given` are the names of those given as flags.

    Raises: RunError when it isn't a JSON object; ConfigError on a name that is no setting of this command.
    """
    found = {name.replace("-", "_"): value for name, value in read_json(path).items()}
    names = {field.name for field in dataclasses.fields(config_class)}
    if "format" in found and "stage" in found:
        if found["stage"] != STAGES.get(config_class.__name__):
            raise ConfigError(f"{path}: expected settings of this command, found a run of {found['stage']!r}")
        if "groups" in found and "head" not in found:
            raise ConfigError(
                f"{path}: expected settings of one command, found a sweep that was merged out of several; "
                f"name the config.json of one of its groups: {', '.join(map(str, found['groups']))}"
            )
        found = _of_a_run(found, names, given)
    elif unknown := sorted(found.keys() - names):
        raise ConfigError(
            f"{path}: expected settings of this command, found {unknown[0]!r}"
            f"{did_you_mean(unknown[0], sorted(names))}"
        )
    is_many = {name for name, kind in kinds(config_class).items() if kind.many}
    return {
        name: [value] if name in is_many and value is not None and not isinstance(value, list) else value
        for name, value in found.items()
    }


def _of_a_run(found: dict[str, Any], names: Collection[str], given: Collection[str]) -> dict[str, Any]:
    """A run's settings without what belongs to its place, and without facts, which are no settings."""
    fields = {name: value for name, value in found.items() if name in names and name not in OF_PLACE}
    cache = fields.get("cache")
    if cache and not Path(cache).exists() and found.get("cache_path"):
        fields["cache"] = found["cache_path"]
    for first, second in EITHER:
        if second in given:
            fields.pop(first, None)
        elif first in given or fields.get(first):
            fields.pop(second, None)
    return fields
