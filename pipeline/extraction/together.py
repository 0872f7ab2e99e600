"""Many workers at one extraction: hand out the shares, show how far all of them are, tell of those that died.

How far they are is read from the journals of the files that they make, so it is the same for every engine.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path

from cache import rows_there, shard_paths, shard_ranges
from pipeline.config import ExtractConfig
from pipeline.engines.executors import open_executor
from pipeline.engines.pool import WorkerError
from pipeline.extraction.agreement import forget_unused
from pipeline.extraction.jobs import Job
from pipeline.progress import Progress

EVERY_SECONDS = 0.5
"""How often the journals are read."""
Task = Callable[[ExtractConfig, int, int], str]


def together(config: ExtractConfig, jobs: Sequence[Job], workers: int, task: Task) -> Iterator[str]:
    """Have the files of some splits made by workers of the engine, and yield what they say of their shares.

    task: does the share of a rank of so many. There are as many as files, so that a fast worker does more.

    Raises: what a task raises, after which all stop; WorkerError, after the others are done, when one died.
    """
    several = [job for job in jobs if job.shards > 1]
    for job in several:
        forget_unused(job.path)
    ranks, died = max((job.shards for job in jobs), default=1), list[WorkerError]()
    with (
        _Watched(jobs) as watched,
        open_executor(config.engine, min(workers, ranks), config.cache_dirs) as executor,
    ):
        waiting: set[Future[str]] = {executor.submit(task, config, rank, ranks) for rank in range(ranks)}
        while waiting:
            done, waiting = wait(waiting, EVERY_SECONDS, FIRST_COMPLETED)
            watched.look()
            for future in done:
                try:
                    yield future.result()
                except WorkerError as error:
                    died.append(error)
    if died:
        raise WorkerError(
            f"{len(died)} of {ranks} shares were lost with their workers: {died[0]}, perhaps for want of "
            "memory; run the same command again, it goes on where they stopped"
        )


class _Watched:
    """A context manager that shows how many images are in the files of some jobs, of those that aren't there.

    Layers are made together, so one of each split is looked at.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        missing = {job.split.split: job for job in reversed(jobs) if not job.is_there}
        self._there, self._whole = dict[Path, int](), dict[Path, int]()
        for job in missing.values():
            ranges = shard_ranges(len(job.split), job.shards)
            paths = shard_paths(job.path, job.shards) if job.shards > 1 else [job.path]
            self._whole |= dict(zip(paths, map(len, ranges), strict=True))
        self._there = {path: rows_there(path) for path in self._whole}
        total = sum(self._whole.values())
        self._progress = Progress("extracting", total, "images", sum(self._there.values()))

    def __enter__(self) -> "_Watched":
        self._progress.__enter__()
        return self

    def __exit__(self, *stop: object) -> None:
        self._progress.__exit__(*stop)

    def look(self) -> None:
        """Count again."""
        before = sum(self._there.values())
        for path, rows in self._whole.items():
            if self._there[path] < rows:
                self._there[path] = rows_there(path)
        self._progress.advance(max(0, sum(self._there.values()) - before))
