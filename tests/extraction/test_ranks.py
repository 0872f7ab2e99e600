"""The rank of a worker that torchrun, SLURM or Kubernetes started."""

import pytest
import torch

from pipeline import device
from pipeline.config import ExtractConfig
from pipeline.errors import ConfigError
from pipeline.extraction.ranks import Rank, own_gpu, rank_of, workers_for


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, (3, 8)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "6", "SLURM_ARRAY_TASK_MIN": "0"}, (5, 6)),
        ({"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "5", "SLURM_ARRAY_TASK_MIN": "1"}, (4, 5)),
        (
            {
                "SLURM_ARRAY_TASK_ID": "14",
                "SLURM_ARRAY_TASK_COUNT": "3",
                "SLURM_ARRAY_TASK_MIN": "10",
                "SLURM_ARRAY_TASK_STEP": "2",
                "SLURM_PROCID": "0",
                "SLURM_NTASKS": "1",
            },
            (2, 3),
        ),
        ({"JOB_COMPLETION_INDEX": "0", "JOB_COMPLETIONS": "4"}, (0, 4)),
        ({"SLURM_PROCID": "7", "SLURM_NTASKS": "8"}, (7, 8)),
    ],
)
def test_whatever_starts_workers_says_which_one_this_is(
    environment: dict[str, str], expected: tuple[int, int]
) -> None:
    assert rank_of("env", environment) == Rank(*expected)
    assert rank_of("2/9", environment) == Rank(2, 9)


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({}, "expected one of RANK, SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX, SLURM_PROCID in the environ"),
        ({"JOB_COMPLETION_INDEX": "0"}, "JOB_COMPLETIONS isn't set; set it, or give --shard R/N"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "RANK: expected a whole number, found 'x'"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK is 2 and WORLD_SIZE is 2; expected a rank from 0, below"),
        (
            {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "2", "SLURM_ARRAY_TASK_MIN": "1"},
            "SLURM_ARRAY_TASK_ID is 7 and SLURM_ARRAY_TASK_COUNT is 2; expected a rank",
        ),
    ],
)
def test_an_environment_without_a_rank_is_one_line(environment: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=f"^--shard env: {problem}"):
        rank_of("env", environment)


@pytest.mark.parametrize(
    ("settings", "gpus", "expected"),
    [
        ({}, 8, 8),
        ({"device": "cuda"}, 8, 8),
        ({"device": "cpu"}, 8, 1),
        ({"workers": 3}, 8, 3),
        ({}, 1, 1),
        ({}, 0, 1),
    ],
)
def test_a_command_has_a_worker_for_each_gpu(
    settings: dict[str, str], gpus: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "AUTO", ("cuda", "cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert workers_for(ExtractConfig(**settings)) == expected  # type: ignore[arg-type]


def test_an_engine_has_to_be_told_how_many_workers() -> None:
    with pytest.raises(ConfigError, match=r"engine: dask needs to know how many workers; give --workers N"):
        workers_for(ExtractConfig(engine="dask"))


@pytest.mark.parametrize(
    ("environment", "gpus", "expected"),
    [
        ({"LOCAL_RANK": "1"}, 4, [1]),
        ({"SLURM_LOCALID": "5"}, 4, [1]),
        ({}, 4, [2]),
        ({"LOCAL_RANK": "1"}, 1, []),
    ],
)
def test_ranks_of_one_machine_share_its_gpus(
    environment: dict[str, str], gpus: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = list[int]()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    own_gpu(Rank(6, 8), environment)
    assert taken == expected
