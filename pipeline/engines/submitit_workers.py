"""Workers that are jobs: of SLURM where there is one, else of submitit's own, which are processes here.

A task is a job of its own. What a job gets is said by the variables that sbatch reads, such as
SBATCH_PARTITION, SBATCH_TIMELIMIT and SBATCH_GPUS. Jobs and what they print lie in artifacts/submitit.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from submitit import AutoExecutor, Job, LocalJob
from submitit.core.utils import FailedJobError, FailedSubmissionError, UncompletedJobError

from cache.whole_files import lives
from pipeline.engines.outcome import Outcome, Task
from pipeline.engines.pool import WorkerError
from pipeline.engines.sharing import module_paths, share_of
from pipeline.errors import RunError

FOLDER = Path("artifacts/submitit")
LOCAL_SECONDS = 5
"""How long to wait for the end of a job on this machine that was asked to end."""
MINUTES = 24 * 60
"""A job's limit, unless SBATCH_TIMELIMIT gives another; submitit's own is five minutes."""


@contextmanager
def open_workers(count: int) -> Iterator[list["JobWorker"]]:
    """So many jobs at a time."""
    os.environ["PYTHONPATH"] = module_paths()  # which jobs inherit
    executor = AutoExecutor(FOLDER)
    executor.update_parameters(timeout_min=MINUTES, name="tencrop")
    shared = share_of(count) if executor.cluster == "local" else None
    one_by_one = threading.Lock()
    yield [JobWorker(executor, one_by_one, shared) for _ in range(count)]


class JobWorker:
    """A job for each task; `environment` is set there before."""

    def __init__(
        self, executor: AutoExecutor, lock: threading.Lock, environment: dict[str, str] | None
    ) -> None:
        self._executor, self._lock, self._environment = executor, lock, environment
        self._stopped = threading.Event()

    def run(self, task: Task) -> Outcome:
        try:
            with self._lock:
                if self._stopped.is_set():
                    raise WorkerError("it was stopped")
                job = self._executor.submit(_run, task, self._environment, os.getpid())
        except (FailedSubmissionError, FailedJobError) as error:
            raise RunError(f"sbatch: the job wasn't accepted: {_first_line(error)}") from error
        while not job.done():
            if self._stopped.wait(1):
                _cancel(job)
                raise WorkerError("it was stopped")
        try:
            return job.result()
        except UncompletedJobError:
            raise WorkerError(
                f"its job {job.job_id} ended early; {job.paths.stderr} has what it said"
            ) from None

    def stop(self) -> None:
        self._stopped.set()


def _cancel(job: Job[Outcome]) -> None:
    """End a job: asked once, a local one interrupts its process, and kills it a second later."""
    job.cancel(check=False)
    for _ in range(LOCAL_SECONDS * 10 * isinstance(job, LocalJob)):
        if job.done():
            return
        time.sleep(0.1)


def _run(task: Task, environment: dict[str, str] | None, command: int) -> Outcome:
    if environment is not None:  # on the machine of the command, which may be killed
        os.environ.update(environment)
        threading.Thread(target=_end_with, args=(command,), daemon=True).start()
    return task()


def _end_with(command: int) -> None:
    while lives(command):
        time.sleep(0.5)
    os._exit(1)


def _first_line(error: Exception) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
