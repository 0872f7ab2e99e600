"""The engines that tasks can run on, behind one interface: `concurrent.futures.Executor`.

    with open_executor("local", 4) as executor:
        futures = [executor.submit(task, config, rank) for rank in range(4)]

A task is a function of a module, and gets a configuration, never arrays: a worker opens the files itself.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import needs_extra


class Engine(NamedTuple):
    """Where workers come from."""

    summary: str
    """What --help says."""
    module: str
    """Has `open_workers(count)`, a context manager that gives a list of workers."""
    package: str | None = None
    """What it needs; the extra of this project that brings it has the engine's name."""
    is_own: bool = True
    """Whether its workers always end with the command, and may keep things for their next task."""


ENGINES = {
    "local": Engine("processes of this machine", "pipeline.engines.local"),
    "torchrun": Engine("ranks of a torchrun on this machine", "pipeline.engines.torchrun_workers"),
    "submitit": Engine("jobs of SLURM", "pipeline.engines.submitit_workers", "submitit"),
    "dask": Engine(
        "the cluster that DASK_SCHEDULER_ADDRESS names, or one that is started here",
        "pipeline.engines.dask_workers",
        "distributed",
        is_own=False,
    ),
    "ray": Engine(
        "the cluster that RAY_ADDRESS names, or one that is started here",
        "pipeline.engines.ray_workers",
        "ray",
        is_own=False,
    ),
}


@contextmanager
def open_executor(name: str, workers: int, folders: Sequence[Path] = ()) -> Iterator[Executor]:
    """An executor of an engine with so many workers, each of which does one task at a time.

    A task begins in the working directory of this command, on a worker that has the same versions of torch
    and of this project, and that sees `folders`, which are made if need be; else its future raises RunError.
    A worker that dies fails its own task with WorkerError. When the block ends with an exception, an
    interruption say, all workers end at once; else once all tasks are done.

    Workers on this machine share its cores, and see one GPU each where there are several.

    Raises: ConfigError when the engine's package is missing, RunError when its cluster can't be reached.
    """
    from pipeline.engines.passport import passport
    from pipeline.engines.pool import WorkerPool

    engine = ENGINES[name]
    with needs_extra(f"--engine {name}", name) if engine.package else nullcontext():
        module = import_module(engine.module)
    with passport(folders) as wanted, module.open_workers(workers) as places:
        pool = WorkerPool(places, wanted)
        try:
            yield pool
            pool.shutdown()
        finally:
            pool.stop()
