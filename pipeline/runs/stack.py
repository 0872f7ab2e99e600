"""The heads of a stack: one for each combination of learning rate, weight decay and seed."""

import dataclasses
import itertools
from pathlib import Path
from pkgutil import resolve_name
from typing import NamedTuple

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.heads import HEADS
from pipeline.heads.base import FittedHead


class Member(NamedTuple):
    """One head of the stack: its own settings, and its folder."""

    config: TrainConfig
    folder: Path


def members_of(config: TrainConfig) -> list[Member]:
    """The heads of a sweep, each in a folder named by its settings; a single head has the run folder.

    Raises: ConfigError when two of them would share one.
    """
    grid = list(itertools.product(config.lr, config.weight_decay, config.seed))
    if len(grid) == 1:
        return [Member(config, config.run_dir)]
    folders = [config.run_dir / f"lr{lr:g}-wd{decay:g}-seed{seed}" for lr, decay, seed in grid]
    if len(set(folders)) < len(folders):
        raise ConfigError("--lr, --weight-decay: expected values that differ in their first six digits")
    return [
        Member(
            dataclasses.replace(config, lr=(lr,), weight_decay=(decay,), seed=(seed,), out=str(folder)),
            folder,
        )
        for (lr, decay, seed), folder in zip(grid, folders, strict=True)
    ]


def is_computed(config: TrainConfig) -> bool:
    """Whether the head is computed from all maps at once."""
    return issubclass(resolve_name(HEADS[config.head]), FittedHead)  # pyright: ignore[reportArgumentType]


def without_steps(config: TrainConfig) -> TrainConfig:
    """One head, where heads are computed: learning rate, weight decay and seed don't matter to them."""
    if not is_computed(config):
        return config
    return dataclasses.replace(
        config, lr=config.lr[:1], weight_decay=config.weight_decay[:1], seed=config.seed[:1]
    )
