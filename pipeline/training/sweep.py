"""Stage two over several shapes: groups of heads, each a stack that trains in one pass, in turn or in
processes. A process gets a configuration and opens the cache itself; all map the same file.

A group that fails, or whose process is killed, costs the others nothing.
"""

import contextlib
import dataclasses
import io
import os
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from cache import FeatureCache
from pipeline.config import SweepConfig, TrainConfig
from pipeline.device import free_bytes, pick_device
from pipeline.engines.processes import processes
from pipeline.errors import RunError, UserError, out_of_memory
from pipeline.files import read_json, write_json
from pipeline.maps.parts import split
from pipeline.runs import claim as claims
from pipeline.runs import folder as runs
from pipeline.runs import leaderboard
from pipeline.training.stage import describe, train
from pipeline.training.validation import score_in

Outcome = tuple[TrainConfig, UserError | None]


def sweep(config: SweepConfig) -> Path:
    """Train every group, in the run folder if it is the only one; gives the run folder.

    Raises: as `train`; of several groups, RunError at once when the folder holds one with other settings, and
    once all others are trained, naming those that failed.
    """
    groups, out = config.groups(), config.run_dir
    if len(groups) == 1:
        return train(groups[0])
    cache = FeatureCache(Path(config.cache) / "train.h5")
    train_part, _ = split(cache.labels, cache.classes, groups[0])
    for group in groups:  # before anything of a sweep that is there is replaced
        claims.check(group.run_dir, describe(group, cache, train_part))
    claim(out)
    with claims.held(out):
        names = [group.group_name for group in groups]
        write_json(out / "config.json", {**config.as_json(), "stage": "train", "groups": names})
        (out / runs.LEADERBOARD).unlink(missing_ok=True)
        fill(groups, min(config.jobs or os.cpu_count() or 1, len(groups)))
        leaderboard.write(out, [head for group in groups for head in leaderboard.heads_in(group)])
    return out


def fill(groups: list[TrainConfig], jobs: int) -> None:
    """Train every group. Raises: RunError, in the end, naming those that failed."""
    print(f"{len(groups)} groups of heads, {jobs} at a time: {', '.join(g.group_name for g in groups)}")
    outcomes = in_processes(groups, jobs) if jobs > 1 else here(groups)
    failed = []
    for count, (group, error) in enumerate(outcomes, 1):
        print(
            f"{group.group_name}: {'failed' if error else standing(group)} ({count} of {len(groups)})",
            flush=True,
        )
        failed += [f"{group.group_name}: {error}"] if error else []
    if failed:
        raise RunError(f"{len(failed)} of {len(groups)} groups failed: {'; '.join(failed)}")


def claim(out: Path) -> None:
    """Make a sweep's folder. Groups can be added to it. Raises: RunError when it holds something else."""
    if (out / "config.json").exists() and "groups" not in read_json(out / "config.json"):
        raise RunError(f"{out}: holds the run of a single shape; give another --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{out}: can't be made: {error.strerror}; give another --out") from error


def here(groups: list[TrainConfig]) -> Iterator[Outcome]:
    """One group after the other, in this process."""
    for group in groups:
        yield group, attempt(group)


def in_processes(groups: list[TrainConfig], jobs: int) -> Iterator[Outcome]:
    """Groups as they end. Each process is a pool of its own, for the end of one ends all of a pool."""
    megabytes = groups[0].memory_budget_mb or (free_bytes(pick_device(groups[0].device)) // 2 >> 20)
    share = max(1, megabytes // jobs)
    begin = partial(start, max(1, (os.cpu_count() or 1) // jobs))
    waiting, idle = deque(groups), list[Executor]()
    running: dict[Future[UserError | None], tuple[TrainConfig, Executor]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                pool = idle.pop() if idle else processes(1, begin)
                with contextlib.suppress(BrokenProcessPool):  # killed while it was idle: take another
                    task = pool.submit(quietly, dataclasses.replace(waiting[0], memory_budget_mb=share))
                    running[task] = waiting.popleft(), pool
            for task in wait(running, return_when=FIRST_COMPLETED).done:
                group, pool = running.pop(task)
                if isinstance(task.exception(), BrokenProcessPool):
                    yield group, RunError("its process was killed; add --resume to train what is missing")
                else:
                    idle.append(pool)
                    yield group, task.result()
    finally:
        for pool in idle:
            pool.shutdown()
        for _, pool in running.values():  # after an interruption: they go on from their checkpoints
            pool.shutdown(kill_workers=True)  # pyright: ignore[reportCallIssue]


def start(threads: int) -> None:
    """The beginning of a process."""
    torch.set_num_threads(threads)
    tqdm.set_lock(threading.RLock())  # its own would be left behind in the system when the process is killed


def quietly(group: TrainConfig) -> UserError | None:
    """`attempt`, without output: that of several processes would mix."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return attempt(group)


def attempt(group: TrainConfig) -> UserError | None:
    """Train; gives what was wrong."""
    try:
        train(group)
    except UserError as error:
        return error
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        return RunError("out of memory; give smaller --hidden-shapes, or a smaller --batch and another --out")
    except OSError as error:
        where = error.filename or group.run_dir
        return RunError(f"{where}: {error.strerror or error}; mend that, then add --resume")
    return None


def standing(group: TrainConfig) -> str:
    """The best of a finished group."""
    head = leaderboard.heads_in(group)[0]
    score = score_in(head)
    best = head[score.key]
    return "finished" if best is None else f"validation {score.title} {best:.2f} %"
