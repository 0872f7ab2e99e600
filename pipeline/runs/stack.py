"""The heads of a stack: one for each combination of learning rate, weight decay and seed."""

import dataclasses
import itertools
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.wording import flag


class Setting(NamedTuple):
    """A learning rate and a weight decay, which validation chooses."""

    lr: float
    weight_decay: float


class StackedHead(NamedTuple):
    """One head of a stack. Its configuration has this setting and seed alone, and the head's own folder."""

    setting: Setting
    seed: int
    config: TrainConfig

    @property
    def folder(self) -> Path:
        """Where its weights and scores go."""
        return self.config.run_dir

    def own_settings(self) -> dict[str, Any]:
        """The settings in config.json that tell the head from its group."""
        settings = self.config.as_json()
        return {name: settings[name] for name in ("lr", "weight_decay", "seed", "out") if name in settings}

    def facts(self) -> dict[str, Any]:
        """The part of summary.json that tells the head from the others."""
        return {
            "group": self.config.group_name,
            **self.setting._asdict(),
            "seed": self.seed,
            "folds": self.config.folds,
        }


NAMES = "lr{:g}-wd{:g}-seed{}"
"""The folder of a head by its learning rate, weight decay and seed."""


def stack_of(config: TrainConfig, *, apart: bool = False) -> list[StackedHead]:
    """The heads of a group, each in a folder named by its setting; a single head has the run folder, unless
    it has to be `apart` from others there.

    Raises: ConfigError when two of them would share one.
    """
    config = config.resolved()
    grid = list(itertools.product(config.lr or (), config.weight_decay, config.seed))
    names = [NAMES.format(*values) for values in grid] if apart or len(grid) > 1 else [""]
    if len(set(names)) < len(names):
        flags = f"{flag('lr')}, {flag('weight_decay')}"
        raise ConfigError(f"{flags}: expected values that differ in their first six digits")
    heads = []
    for (lr, decay, seed), name in zip(grid, names, strict=True):
        own = {"lr": (lr,), "weight_decay": (decay,), "seed": (seed,), "out": str(config.run_dir / name)}
        heads.append(StackedHead(Setting(lr, decay), seed, dataclasses.replace(config, **own)))
    return heads
