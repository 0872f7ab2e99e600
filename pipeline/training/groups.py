"""Groups of heads, each a stack that trains in one pass: in turn in this process, or on an engine's workers.

A worker gets a configuration and the cache's key, and opens the cache itself: all on a machine map the same
file. A group that fails, or whose worker dies, costs the others nothing.
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from pathlib import Path
from typing import NamedTuple

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.device import free_bytes, pick_device
from pipeline.engines.executors import open_executor
from pipeline.engines.passport import me
from pipeline.engines.pool import WorkerError
from pipeline.engines.sharing import sharers
from pipeline.errors import CacheError, ConfigError, RunError, UserError, out_of_memory
from pipeline.progress import Progress, report_to, say
from pipeline.runs import leaderboard
from pipeline.runs.find_cache import TRAIN, find_described
from pipeline.runs.layout import METRICS, SUMMARY
from pipeline.runs.local_cache import local_split
from pipeline.runs.members import members
from pipeline.runs.score import score_in
from pipeline.training.announce import WARNING
from pipeline.training.stage import train

LOOK_SECONDS = 0.5
"""How often the progress of workers is looked at."""


class Result(NamedTuple):
    """What became of a group: why it failed, and what it warned of where nobody saw its output."""

    error: UserError | None
    warnings: Sequence[str] = ()


class Wanted(NamedTuple):
    """The cache that a worker has to find, by its contents."""

    cache_key: str
    cache_images: str


def train_groups(groups: list[TrainConfig], engine: str | None, workers: int, wanted: Wanted) -> None:
    """Train every group: in turn, or so many at a time on the workers of an engine.

    Raises: RunError, in the end, naming those that failed; as `open_executor`.
    """
    times = f", {workers} at a time" + (f" by {engine}" if engine not in (None, "local") else "")
    names = ", ".join(group.group_name for group in groups)
    print(f"{len(groups)} group{'s' * (len(groups) > 1)} of heads{times}: {names}")
    if engine is None:
        outcomes = ((group, Result(_attempt(group))) for group in groups)
    else:
        outcomes = _on_workers(groups, engine, workers, wanted)
    failed = []
    for count, (group, (error, warnings)) in enumerate(outcomes, 1):
        for line in warnings:
            say(line)
        result = "failed" if error else _best_score(group.run_dir)
        say(f"{group.group_name}: {result} ({count} of {len(groups)})")
        failed += [f"{group.group_name}: {error}"] if error else []
    if failed:
        raise RunError(f"{len(failed)} of {len(groups)} groups failed: {'; '.join(failed)}")


def _on_workers(
    groups: list[TrainConfig], engine: str, workers: int, wanted: Wanted
) -> Iterator[tuple[TrainConfig, Result]]:
    """Groups as they end."""
    shared = groups[0].run_dir.parent
    with (
        Progress("training", len(groups), "groups") as progress,
        open_executor(engine, workers, [shared]) as executor,
    ):
        running = {executor.submit(_train_here, group, wanted): group for group in groups}
        while running:
            done = wait(running, LOOK_SECONDS, FIRST_COMPLETED).done
            ended = [(running.pop(future), future) for future in done]
            _show(progress, len(groups) - len(running), list(running.values()))
            for group, future in ended:
                try:
                    yield group, future.result()
                except WorkerError as error:
                    yield group, Result(RunError(f"{error}; add --resume to train what is missing"))
                except UserError as error:
                    yield group, Result(error)


def _show(progress: Progress, ended: int, running: list[TrainConfig]) -> None:
    """How far all groups are, by the lines that those at work have written."""
    shares = {group.group_name: _share_done(group) for group in running}
    progress.note(", ".join(f"{name} {share:.0%}" for name, share in shares.items() if share))
    progress.advance(ended + sum(shares.values()) - progress.done)


def _share_done(group: TrainConfig) -> float:
    """Epochs that are done, of the head of a group that has the fewest and isn't finished."""
    with contextlib.suppress(RunError, KeyError):  # of a folder that is just being made
        folders = [member.folder for member in members(group).to_train]
        epochs = [_lines(folder / METRICS) for folder in folders if not (folder / SUMMARY).exists()]
        return min(min(epochs) / group.epochs, 1.0) if epochs else 1.0
    return 0.0


def _lines(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.read_bytes().count(b"\n")
    return 0


def _train_here(group: TrainConfig, wanted: Wanted) -> Result:
    """Train a group in a worker, without output, which several of them would mix up."""
    count = sharers(pick_device(group.device).type)
    group = dataclasses.replace(_with_cache(group, wanted), memory_budget_mb=_budget(group, count))
    error, warnings = _quietly(group)
    if isinstance(error, ConfigError) and count > 1 and "--memory-budget-mb" in str(error):
        error = ConfigError(f"{error}; {count} workers share it: give as much for each")
    return Result(error, warnings)


def _with_cache(group: TrainConfig, wanted: Wanted) -> TrainConfig:
    """A group with the place of this worker's copy of the cache. Raises: RunError when it has none."""
    if group.stage:
        return group
    with contextlib.suppress(CacheError, OSError):
        named = FeatureCache(local_split(group.cache, None, TRAIN))
        if (named.key, named.images_digest) == wanted:
            return group
    found = find_described(wanted._asdict(), group.run_dir, group.cache)
    if found.training is None or found.folder is None:
        raise RunError(
            f"{me()} has no copy of the cache, key {wanted.cache_key[:12]}: looked in "
            f"{'; '.join(found.looked)}; copy it there, add --stage DIR, or give a --cache that all see"
        )
    return dataclasses.replace(group, cache=str(found.folder))


def _quietly(group: TrainConfig) -> Result:
    """Train without output; gives the warnings in it as well."""
    report_to()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        error = _attempt(group)
    return Result(error, [line for line in said.getvalue().splitlines() if line.startswith(WARNING)])


def _budget(group: TrainConfig, count: int) -> int | None:
    """The share of one of `count` workers on a machine; None for all of what is free, where it is alone."""
    if count == 1:
        return group.memory_budget_mb
    megabytes = group.memory_budget_mb or (free_bytes(pick_device(group.device)) // 2 >> 20)
    return max(1, megabytes // count)


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
