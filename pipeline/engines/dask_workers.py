"""Workers of dask: those of a running scheduler, or of a cluster of processes on this machine.

The scheduler's address stands in DASK_SCHEDULER_ADDRESS, as dask itself has it.
"""

import logging
import multiprocessing
import os
import pickle
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import partial

import dask.config
from distributed import Client, Future, KilledWorker, LocalCluster, get_worker

from pipeline.engines.outcome import Outcome, Task
from pipeline.engines.pool import WorkerError
from pipeline.engines.sharing import share_machine
from pipeline.errors import RunError

ADDRESS = "DASK_SCHEDULER_ADDRESS"
SECONDS = 20
"""How long to wait for a scheduler that doesn't answer, or that has no workers."""


@contextmanager
def open_workers(count: int) -> Iterator[list["DaskWorker"]]:
    """So many tasks at a time. Raises: RunError when the scheduler can't be reached or has no workers."""
    address = os.environ.get(ADDRESS)
    with ExitStack() as stack:
        if not address:
            # A task that ended its worker is given to no other; workers may have processes that decode.
            own = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.daemon": False}
            stack.enter_context(dask.config.set(own))
            quiet = {"dashboard_address": None, "silence_logs": logging.CRITICAL}
            try:
                cluster = LocalCluster(n_workers=count, threads_per_worker=1, **quiet)
            except (RuntimeError, OSError, TimeoutError) as error:
                raise RunError(
                    f"--engine dask: its workers didn't start: {error}; run the same command again"
                ) from error
            stack.enter_context(cluster)
            client = stack.enter_context(Client(cluster))
        else:
            client = stack.enter_context(_connected(address))
        yield [DaskWorker(client, None if address else count) for _ in range(count)]


def _connected(address: str) -> Client:
    try:
        client = Client(address, timeout=SECONDS)
    except (OSError, ValueError) as error:
        raise RunError(
            f"{ADDRESS}: no scheduler of dask answers at {address}; start one with `dask scheduler`, or "
            "unset the variable to work on this machine"
        ) from error
    try:
        client.wait_for_workers(1, SECONDS)
    except TimeoutError as error:
        client.close()
        raise RunError(f"{address}: has no workers; start some with `dask worker {address}`") from error
    return client


class DaskWorker:
    """Whichever worker of the cluster takes the task. `own`: how many it has, when we started it."""

    def __init__(self, client: Client, own: int | None) -> None:
        self._client, self._own = client, own
        self._future: Future | None = None
        self._is_stopped = False

    def run(self, task: Task) -> Outcome:
        sent = pickle.dumps(partial(_run, task, self._own))  # the scheduler may not have this project
        future = self._client.submit(lambda sent: pickle.loads(sent)(), sent, pure=False, retries=0)
        self._future = future
        if self._is_stopped:
            future.cancel()
        try:
            return future.result()
        except KilledWorker:
            raise WorkerError("its process was killed") from None
        except ModuleNotFoundError as error:
            raise RunError(
                f"a worker of dask has no package {error.name}; install this project there, or set PYTHONPATH"
            ) from error
        except CancelledError:
            raise WorkerError("it was stopped, or the scheduler is gone") from None
        finally:
            self._future = None

    def stop(self) -> None:
        self._is_stopped = True
        if (future := self._future) is not None:
            future.cancel()


def _run(task: Task, own: int | None) -> Outcome:
    if own is not None:
        share_machine(int(get_worker().name), own)
    else:  # or its processes could have none that decode
        multiprocessing.current_process()._config["daemon"] = False  # pyright: ignore[reportAttributeAccessIssue]
    return task()
