"""Which share of an extraction this process has, where something else started it as one of several.

Ranks are counted from 0. What starts them says so in the environment, each in its own words.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

import torch

from pipeline.config import ExtractConfig
from pipeline.device import pick_device
from pipeline.errors import ConfigError
from pipeline.wording import short

ENV = "env"
FROM_ENVIRONMENT = (
    ("RANK", "WORLD_SIZE", ""),
    ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"),
    ("JOB_COMPLETION_INDEX", "JOB_COMPLETIONS", ""),
    ("SLURM_PROCID", "SLURM_NTASKS", ""),
)
"""Variables with the rank, the number of ranks, and the first rank: torchrun, an array of SLURM, an indexed
job of Kubernetes (which says its index only: the job's template sets the other), srun. The first that is set
counts."""
STEP = "SLURM_ARRAY_TASK_STEP"
ON_THIS_MACHINE = "LOCAL_RANK", "SLURM_LOCALID"
"""Variables with the rank among those of one machine."""


class Rank(NamedTuple):
    """One of `count` workers, from 0."""

    number: int
    of: int


def rank_of(share: str, environment: Mapping[str, str] = os.environ) -> Rank:
    """The rank that --shard says: R/N, or that of the environment. Raises: ConfigError naming a variable."""
    if share != ENV:
        number, count = map(int, share.split("/"))
        return Rank(number, count)
    for rank, count, first in FROM_ENVIRONMENT:
        if rank in environment:
            found = Rank(_number(rank, environment), _number(count, environment))
            if first in environment:
                step = _number(STEP, environment) if STEP in environment else 1
                place = found.number - _number(first, environment)
                found = found._replace(number=place // max(step, 1))
            if not 0 <= found.number < found.of:
                raise ConfigError(
                    f"--shard env: {rank} is {environment[rank]} and {count} is {environment[count]}; "
                    "expected a rank from 0, below their number"
                )
            return found
    known = ", ".join(rank for rank, *_ in FROM_ENVIRONMENT)
    raise ConfigError(
        f"--shard env: expected one of {known} in the environment, found none; start it by torchrun, SLURM "
        "or as an indexed Kubernetes job, or give --shard R/N"
    )


def own_gpu(rank: Rank, environment: Mapping[str, str] = os.environ) -> None:
    """Make one of this machine's GPUs the one that `cuda` means, so that its ranks share them out."""
    if (count := torch.cuda.device_count()) > 1:
        place = next((name for name in ON_THIS_MACHINE if name in environment), None)
        torch.cuda.set_device((_number(place, environment) if place else rank.number) % count)


def workers_for(config: ExtractConfig) -> int:
    """How many workers an extraction has where nothing else started them. Raises: ConfigError."""
    if config.workers or config.engine != "local":
        if config.workers is None:
            raise config.refused(
                "engine", f"{config.engine} needs to know how many workers; give --workers N"
            )
        return config.workers
    on_gpus = config.device in ("auto", "cuda") and pick_device(config.device).type == "cuda"
    return torch.cuda.device_count() if on_gpus else 1


def _number(name: str, environment: Mapping[str, str]) -> int:
    text = environment.get(name)
    if text is None:
        raise ConfigError(f"--shard env: {name} isn't set; set it, or give --shard R/N")
    if not text.isdecimal():
        raise ConfigError(f"--shard env: {name}: expected a whole number, found {short(text)}")
    return int(text)
