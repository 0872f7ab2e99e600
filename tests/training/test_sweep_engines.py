"""A sweep on the workers of each engine, really started: as in processes of its own, or refused in a line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.engines import skip_without
from support.toy import write_cache
from support.trained import board

from cache import FeatureCache
from pipeline.config import SweepConfig
from pipeline.engines.executors import ENGINES
from pipeline.errors import ConfigError, RunError
from pipeline.training.groups import Wanted, _train_here

ROOT = Path(__file__).parents[2]
FLAGS = "--head linear knn --seed 0 1 --epochs 3 --batch 16 --precision float64 --device cpu --cache cache"
TIMES = {"seconds", "images_per_second"}


def train_head(folder: Path, *flags: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command in a folder, from a checkout that isn't installed."""
    command = [sys.executable, str(ROOT / "train_head.py"), *FLAGS.split(), *flags]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def figures(run: Path) -> list[dict[str, Any]]:
    return [{name: head[name] for name in head.keys() - TIMES} for head in board(run)["heads"]]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a cache, and a sweep over two groups in two processes."""
    folder = tmp_path_factory.mktemp("reference")
    write_cache(folder / "cache")
    done = train_head(folder, "--out", "runs/jobs", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            name, marks=[] if name == "torchrun" else pytest.mark.faults
        )  # they take a while to start
        for name in ENGINES
        if name != "local"
    ],
)
def test_the_leaderboard_is_that_of_jobs(engine: str, reference: Path) -> None:
    done = train_head(
        reference, "--out", f"runs/{engine}", "--engine", skip_without(engine), "--workers", "2"
    )
    assert done.returncode == 0, done.stderr
    assert f"2 groups of heads, 2 at a time by {engine}: linear, knn\n" in done.stdout
    ours, theirs = reference / "runs" / engine, reference / "runs/jobs"
    assert figures(ours) == figures(theirs)
    for head in board(ours)["heads"]:
        one, other = (load_file(run / head["folder"] / "head.safetensors") for run in (ours, theirs))
        assert all(one[name].equal(other[name]) for name in one.keys() | other.keys())


def test_a_single_group_goes_to_a_worker_too(reference: Path) -> None:
    done = train_head(reference, "--head", "linear", "--out", "runs/single", "--engine", "local")
    assert done.returncode == 0, done.stderr
    assert "1 group of heads, 1 at a time: linear\n" in done.stdout
    one, other = (
        load_file(reference / run / "head.safetensors")
        for run in ("runs/single/lr0.1-wd0.0005-seed1", "runs/jobs/linear/lr0.1-wd0.0005-seed1")
    )
    assert all(one[name].equal(other[name]) for name in one.keys() | other.keys())


def test_a_worker_takes_its_own_copy_of_the_cache_by_its_key(tmp_path: Path) -> None:
    """Where --cache isn't there, or holds another one, one beside the run is found; or none is."""
    cache = FeatureCache(write_cache(tmp_path / "cache") / "train.h5")
    wanted = Wanted(cache.key, cache.images_digest)
    flags = {"head": ("linear",), "epochs": 1, "device": "cpu"}
    (group,) = SweepConfig(cache=str(tmp_path / "cache"), out=str(tmp_path / "run"), **flags).groups()
    shutil.move(tmp_path / "cache", tmp_path / "copy")
    write_cache(tmp_path / "cache", images=60)
    assert _train_here(group, wanted).error is None
    shutil.rmtree(tmp_path / "copy")
    with pytest.raises(RunError, match=r"^the worker on \S+ has no copy of the cache, key \w{12}: looked"):
        _train_here(group, wanted)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"engine": "dusk"}, r"SweepConfig.engine: expected one of local, .*; did you mean dask\?"),
        ({"engine": "dask", "jobs": 2}, r"SweepConfig.jobs: is short for --engine local --workers; leave it"),
        ({"workers": 2}, r"SweepConfig.workers: has no effect without --engine \(local, .*\); add it"),
    ],
)
def test_flags_that_make_no_sense_are_refused_by_field(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SweepConfig(**settings)


@pytest.mark.faults
def test_a_cluster_that_does_not_answer_is_one_line_and_leaves_the_run_as_it_was(reference: Path) -> None:
    before = figures(reference / "runs/jobs")
    flags = ("--out", "runs/jobs", "--engine", skip_without("dask"), "--workers", "2")
    done = train_head(reference, *flags, DASK_SCHEDULER_ADDRESS="tcp://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "train_head.py: DASK_SCHEDULER_ADDRESS: no scheduler of dask answers at tcp://127.0.0.1:1; start one "
        "with `dask scheduler`, or unset the variable to work on this machine"
    )
    assert figures(reference / "runs/jobs") == before
