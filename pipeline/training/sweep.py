"""Stage two over several groups: each is a stack of heads that trains in one pass, in turn or in processes.

A process gets a configuration and opens the cache itself; all map the same file. A group that fails, or whose
process is killed, costs the others nothing.
"""

import contextlib
import dataclasses
import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from cache import FeatureCache
from pipeline.config import SweepConfig, TrainConfig
from pipeline.device import free_bytes, pick_device
from pipeline.engines.processes import cores, processes
from pipeline.engines.reports import Reports, send_to
from pipeline.errors import ConfigError, RunError, UserError, out_of_memory
from pipeline.progress import say
from pipeline.runs import leaderboard
from pipeline.runs.claim import check, claim_sweep, held
from pipeline.runs.find_cache import TRAIN
from pipeline.runs.layout import LEADERBOARD, write_config
from pipeline.runs.local_cache import local_split
from pipeline.runs.score import score_in
from pipeline.training.announce import WARNING
from pipeline.training.beginning import beginning
from pipeline.training.epochs import name_of
from pipeline.training.stage import describe, parts_of, train

Outcome = tuple[TrainConfig, UserError | None]
LOOK_SECONDS = 0.5
"""How often the progress of other processes is looked at."""


def sweep(config: SweepConfig) -> Path:
    """Train every group, in the run folder if it is the only one; gives the run folder.

    Raises: as `train`; with several groups, RunError at once when the folder holds one with other settings,
    and once all others are trained, naming those that failed.
    """
    groups, out = config.groups(), config.run_dir
    if len(groups) == 1:
        return train(groups[0])
    cache = FeatureCache(local_split(config.cache, config.stage, TRAIN))
    train_part, _ = parts_of(groups[0], cache)
    for group in groups:  # before anything of a sweep that is there is replaced
        check(group.run_dir, describe(group, cache, train_part, beginning(group, cache)))
    claim_sweep(out)
    with held(out):
        names = [group.group_name for group in groups]
        write_config(out, {**config.as_json(), "stage": "train", "groups": names})
        (out / LEADERBOARD).unlink(missing_ok=True)
        train_groups(groups, min(config.jobs or cores(), len(groups)))
        leaderboard.write(out, [head for group in groups for head in leaderboard.heads_in(group.run_dir)])
    return out


def train_groups(groups: list[TrainConfig], jobs: int) -> None:
    """Train every group. Raises: RunError, in the end, naming those that failed."""
    print(f"{len(groups)} groups of heads, {jobs} at a time: {', '.join(g.group_name for g in groups)}")
    outcomes = _in_processes(groups, jobs) if jobs > 1 else ((group, _attempt(group)) for group in groups)
    failed = []
    for count, (group, error) in enumerate(outcomes, 1):
        result = "failed" if error else _best_score(group.run_dir)
        say(f"{group.group_name}: {result} ({count} of {len(groups)})")
        failed += [f"{group.group_name}: {error}"] if error else []
    if failed:
        raise RunError(f"{len(failed)} of {len(groups)} groups failed: {'; '.join(failed)}")


def _in_processes(groups: list[TrainConfig], jobs: int) -> Iterator[Outcome]:
    """Groups as they end. Each process is a pool of its own, for the end of one ends all of a pool."""
    megabytes = groups[0].memory_budget_mb or (free_bytes(pick_device(groups[0].device)) // 2 >> 20)
    share = max(1, megabytes // jobs)
    tasks = {name_of(group.run_dir): group for group in groups}
    waiting, idle = deque(tasks), list[Executor]()
    running: dict[Future[tuple[UserError | None, list[str]]], tuple[str, Executor]] = {}
    with Reports("training", tasks, "groups") as reports:
        begin = partial(_begin_process, max(1, cores() // jobs), reports.sender)
        try:
            while waiting or running:
                while waiting and len(running) < jobs:
                    pool = idle.pop() if idle else processes(1, begin)
                    group = dataclasses.replace(tasks[waiting[0]], memory_budget_mb=share)
                    with contextlib.suppress(BrokenProcessPool):  # killed while it was idle: take another
                        running[pool.submit(_quietly, group)] = waiting.popleft(), pool
                done = wait(running, LOOK_SECONDS, FIRST_COMPLETED).done
                reports.read(ended=[running[task][0] for task in done])
                for task in done:
                    name, pool = running.pop(task)
                    if isinstance(task.exception(), BrokenProcessPool):
                        lost = RunError("its process was killed; add --resume to train what is missing")
                        yield tasks[name], lost
                    else:
                        idle.append(pool)
                        error, warnings = task.result()
                        for line in warnings:
                            say(line)
                        if isinstance(error, ConfigError) and "--memory-budget-mb" in str(error):
                            error = ConfigError(f"{error}; --jobs {jobs} share it: give as much for each")
                        yield tasks[name], error
        finally:
            for pool in idle:
                pool.shutdown()
            for _, pool in running.values():  # after an interruption: they continue from their checkpoints
                pool.shutdown(kill_workers=True)  # pyright: ignore[reportCallIssue]


def _begin_process(threads: int, sender: Connection) -> None:
    torch.set_num_threads(threads)
    send_to(sender)


def _quietly(group: TrainConfig) -> tuple[UserError | None, list[str]]:
    """Train without output, which several processes would mix up; gives the warnings in it as well."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        error = _attempt(group)
    return error, [line for line in said.getvalue().splitlines() if line.startswith(WARNING)]


def _attempt(group: TrainConfig) -> UserError | None:
    """Train a group; gives the error, if there is one."""
    try:
        train(group)
    except UserError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return RunError("out of memory; give smaller --hidden-shapes and another --out")
    except OSError as error:
        where = error.filename or group.run_dir
        return RunError(f"{where}: {error.strerror or error}; fix that, then add --resume")
    return None


def _best_score(run_dir: Path) -> str:
    """The validation score of a finished group's best head, in words."""
    head = leaderboard.heads_in(run_dir)[0]
    score = score_in(head)
    return "finished" if head[score.key] is None else f"validation {score.in_words(head)}"
