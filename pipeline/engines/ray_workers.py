"""Workers of ray: those of the cluster at RAY_ADDRESS, or of one that is started on this machine."""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports to its makers otherwise
# `ray start` wants a token once there is one, but whoever gives an address sends it in this mode alone
os.environ.update(
    {"RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "token")}
    if {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    or os.path.exists(os.path.expanduser("~/.ray/auth_token"))
    else {}
)
import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.engines.outcome import Outcome, Task
from pipeline.engines.pool import WorkerError
from pipeline.engines.processes import cores
from pipeline.engines.sharing import share_of
from pipeline.errors import RunError

ADDRESS = "RAY_ADDRESS"
SECONDS = 20
"""How long to wait for a cluster that doesn't answer."""
STORE_BYTES = 80 << 20
"""For what is sent between processes: configurations and outcomes, no arrays."""


@contextmanager
def open_workers(count: int) -> Iterator[list["RayWorker"]]:
    """So many tasks at a time, each with a CPU of the cluster's, and with a GPU where it has some.

    Raises: RunError when the cluster can't be reached.
    """
    address = os.environ.get(ADDRESS)
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    cpus = 1 if address else max(cores() // count, 1)
    terminate = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            _refuse_silence(address)
            ray.init(address, **quiet)
        else:
            own = {"num_cpus": cpus * count, "object_store_memory": STORE_BYTES, "include_dashboard": False}
            ray.init("local", **own, **quiet)
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
    except Exception as error:  # ray raises that class itself
        ray.shutdown()
        raise RunError(_problem(address, error)) from error
    finally:
        # in the main thread, ray sets a handler of its own
        if threading.current_thread() is threading.main_thread() and terminate is not None:
            signal.signal(signal.SIGTERM, terminate)
    try:
        call = ray.remote(max_retries=0, num_cpus=cpus, num_gpus=gpus)(_run)
        shared = None if address else share_of(count)
        yield [RayWorker(call, shared) for _ in range(count)]
    finally:
        ray.shutdown()


def _problem(address: str | None, error: Exception) -> str:
    if address is None:
        reason = str(error).partition("\n")[0].rstrip(".")
        return f"--engine ray: no cluster could be started: {reason}; run the same command again"
    return (
        f"{ADDRESS}: no cluster of ray answers at {address}, or it wants another token; start one with "
        "`ray start --head`, copy its ~/.ray/auth_token to this machine, or unset the variable to work on "
        "this machine alone"
    )


def _refuse_silence(address: str) -> None:
    """Ray itself tries for minutes. Raises: OSError when nobody listens there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():  # else a word, such as auto
        socket.create_connection((host, int(port)), SECONDS).close()


class RayWorker:
    """Whichever process of the cluster takes the task; `environment` is set there before."""

    def __init__(self, call: Any, environment: dict[str, str] | None) -> None:
        self._call, self._environment = call, environment
        self._reference: Any = None
        self._is_stopped = False

    def run(self, task: Task) -> Outcome:
        self._reference = reference = self._call.remote(task, self._environment)
        try:
            while not ray.wait([reference], timeout=1)[0]:
                if self._is_stopped:  # again, for ray forgets it while it gives the task to a process
                    ray.cancel(reference, force=True)
            return ray.get(reference)
        except RayTaskError as error:  # a task itself raises nothing
            reason = f"{type(error.cause).__name__}: {error.cause}".splitlines()[0]
            raise RunError(
                f"a worker of ray couldn't begin ({reason}); install this project there, or set PYTHONPATH"
            ) from error
        except RayError as error:
            raise WorkerError(f"its process was killed ({type(error).__name__})") from None
        finally:
            self._reference = None

    def stop(self) -> None:
        self._is_stopped = True
        if (reference := self._reference) is not None:
            ray.cancel(reference, force=True)


def _run(task: Task, environment: dict[str, str] | None) -> Outcome:
    os.environ.update(environment or {})
    return task()
