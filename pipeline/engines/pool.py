"""An executor over workers, each of which does one task at a time: what all engines have in common."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from queue import LifoQueue
from typing import Any, ParamSpec, Protocol, TypeVar

from pipeline.engines.outcome import Outcome, Task, task_of
from pipeline.engines.passport import Passport
from pipeline.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")


class WorkerError(UserError):
    """A worker died with a task: killed, out of memory, or gone with its machine. Other tasks go on."""


class Worker(Protocol):
    """A place where one task at a time runs: a process, or a slot of a cluster."""

    def run(self, task: Task) -> Outcome:
        """Do a task, in a new process if the last one is gone.

        Raises: WorkerError when the worker dies with it, another UserError when none can be had.
        """
        ...

    def stop(self) -> None:
        """End the worker at once and for good, and the task that it has; a `run` that is about to start it
        raises WorkerError. Called from another thread than `run`."""
        ...


class WorkerPool(Executor):
    """Gives each worker one task at a time, from a thread of its own that waits for it.

    A worker that dies fails its task alone, with WorkerError; the next one is given to a new worker.
    """

    def __init__(self, workers: Sequence[Worker], passport: Passport) -> None:
        self._workers, self._passport, self._is_stopped = workers, passport, False
        self._threads = ThreadPoolExecutor(len(workers), "worker")
        self._idle = LifoQueue[Worker]()  # whoever worked last is warm
        for worker in reversed(workers):
            self._idle.put(worker)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have a function called by a worker: it, its arguments and its result must be picklable."""
        return self._threads.submit(self._run, task_of(self._passport, fn, *args, **kwargs))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and end the workers once those that were given are done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self.stop()

    def stop(self) -> None:
        """End all workers at once; what runs is lost, what waits is cancelled."""
        self._is_stopped = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        # In a thread, which ends them all though a second interrupt ends the waiting for it.
        stopping = threading.Thread(target=self._stop_all)
        stopping.start()
        stopping.join()
        self._threads.shutdown()  # before the cluster goes that they still ask

    def _stop_all(self) -> None:
        with ExitStack() as stack:  # which stops the others, too, if one can't be stopped
            for worker in self._workers:
                stack.callback(worker.stop)

    def _run(self, task: Task) -> Any:
        worker = self._idle.get()
        try:
            if self._is_stopped:
                raise WorkerError("the workers were stopped")
            return worker.run(task).result()
        finally:
            self._idle.put(worker)
