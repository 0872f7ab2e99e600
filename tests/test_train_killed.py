"""Stage two killed at random moments: its folder stays readable, and --resume ends as if nothing had been."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tally import Tally
from toy import config, write_cache

from pipeline import train as stage
from pipeline.config import TrainConfig
from pipeline.errors import RunError
from pipeline.runs import load_head
from pipeline.tensors import read_tensors
from pipeline.train import train

pytestmark = pytest.mark.fault
MEMBERS = ("lr0.3-wd0.0005-seed0", "lr0.05-wd0.0005-seed0")


def start(settings: TrainConfig) -> int:
    """Train in a child that saves a checkpoint after every epoch."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        torch.set_num_threads(1)  # the parent's threads are not in the child
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        stage.CHECKPOINT_SECONDS = 0.0
        train(settings)
        code = 0
    finally:
        os._exit(code)


def lines(run: Path) -> list[dict]:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in found]


def check_readable(run: Path) -> None:
    """Of a run that isn't finished."""
    for path in run.rglob("*.json"):
        json.loads(path.read_text())
    for path in run.rglob("metrics.jsonl"):
        assert [line["epoch"] for line in lines(path.parent)] == list(range(len(lines(path.parent))))
    for path in run.rglob("*.safetensors"):
        read_tensors(path)
    if run.exists() and not (run / "leaderboard.json").exists():
        with pytest.raises(RunError, match=r"no run there|isn't finished"):
            load_head(run)


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.faults)])
def test_killed_at_random_moments_training_ends_as_if_it_had_not_been(
    kills: int, tmp_path: Path, tally: Tally
) -> None:
    cache, seed = write_cache(tmp_path / "cache", noise=6.0), random.Random(0)
    settings = {"dropout": 0.3, "lr": (0.3, 0.05), "val_fraction": 0.3, "epochs": 40}
    begun = time.perf_counter()
    assert os.waitpid(start(config(cache, tmp_path / "whole", **settings)), 0)[1] == 0
    usual, done, rounds = time.perf_counter() - begun, 0, 0
    while done < kills:
        run, here, status = tmp_path / str(rounds), 0, 1
        while status:
            pid = start(config(cache, run, resume=True, **settings))
            if here < 10:
                time.sleep(seed.uniform(0, usual))
                os.kill(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            assert status in (0, signal.SIGKILL)
            with tally("SIGKILL at a random moment of training heads", bool(status)):
                check_readable(run)
            here += bool(status)
        for member in MEMBERS:
            assert lines(run / member) == lines(tmp_path / "whole" / member)
            ours, whole = (load_file(r / member / "head.safetensors") for r in (run, tmp_path / "whole"))
            assert all(torch.equal(ours[name], whole[name]) for name in whole)
        done, rounds = done + here, rounds + 1
