"""Workers that are the ranks of a torchrun on this machine, each of which gets tasks through a socket.

torchrun ends all ranks when one of them dies: the others' tasks are then begun again by new ranks.
"""

import os
import pickle
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from pipeline.engines import rank
from pipeline.engines.outcome import Outcome, Task
from pipeline.engines.pool import WorkerError
from pipeline.engines.sharing import module_paths, share_of
from pipeline.errors import RunError


@contextmanager
def open_workers(count: int) -> Iterator[list["RankWorker"]]:
    """The ranks, which start when the first of them is needed."""
    ranks = Ranks(count)
    try:
        yield [RankWorker(ranks, at) for at in range(count)]
    finally:
        ranks.stop()
        shutil.rmtree(ranks.folder, ignore_errors=True)


class Ranks:
    """A torchrun and connections to its ranks, which threads share."""

    def __init__(self, count: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="torchrun-"))
        self._count, self._lock = count, threading.Lock()
        self._torchrun: subprocess.Popen[bytes] | None = None
        self._connections: dict[int, Connection] = {}
        self._is_stopped = False

    def connection(self, at: int) -> Connection:
        """That of a rank; starts all of them if need be. Raises: RunError when they don't start, WorkerError
        when they were stopped."""
        with self._lock:
            if self._is_stopped:
                raise WorkerError("it was stopped")
            if not self._connections:
                self._start()
            return self._connections[at]

    def lost(self, connection: Connection) -> bool:
        """End what is left of the torchrun that a broken connection belongs to; gives whether it is the one
        that broke first, for which the others were ended."""
        with self._lock:
            if is_first := connection in self._connections.values():
                self._end()
            return is_first or self._is_stopped

    def stop(self) -> None:
        """End all ranks at once."""
        self._is_stopped = True
        self._kill()
        with self._lock:
            self._end()

    def _start(self) -> None:
        key, log = secrets.token_hex(16), self.folder / "log"
        place = str(self.folder / secrets.token_hex(4))  # another one for each torchrun
        with Listener(place, "AF_UNIX", authkey=key.encode()) as listener, log.open("wb") as file:
            self._torchrun = subprocess.Popen(
                # without a folder for logs, it leaves one of its own behind
                [*COMMAND, "--log-dir", str(self.folder), *self._ranks()],
                env={**os.environ, **share_of(self._count), **_place_of_tasks(place, key)},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # an interrupt from the keyboard is for us
            )
            if self._is_stopped:  # while it was being started
                self._torchrun.kill()
            threading.Thread(target=_give_up, args=(place, key, self._torchrun), daemon=True).start()
            while len(self._connections) < self._count:
                try:
                    connection = listener.accept()
                    number = connection.recv()
                except (EOFError, OSError, AuthenticationError):
                    continue  # it died while it introduced itself, of which torchrun will end
                if number is None or self._is_stopped:
                    self._end()
                    raise RunError(
                        f"--engine torchrun: its ranks didn't start: {_reason(log)}; fix that, or run "
                        "the same command again if something killed them"
                    )
                self._connections[number] = connection

    def _ranks(self) -> tuple[str, ...]:
        return "--nproc-per-node", str(self._count), "--module", rank.__name__

    def _kill(self) -> None:
        """Ranks are in process groups of their own, and end when nobody is there."""
        for connection in list(self._connections.values()):
            _hang_up(connection)
        if self._torchrun is not None:
            self._torchrun.kill()

    def _end(self) -> None:
        self._kill()
        if self._torchrun is not None:
            self._torchrun.wait()
        self._torchrun = None
        self._connections.clear()


class RankWorker:
    """One of the ranks, or of those that came after them."""

    def __init__(self, ranks: Ranks, at: int) -> None:
        self._ranks, self._at = ranks, at

    def run(self, task: Task) -> Outcome:
        sent = pickle.dumps(task)
        while True:
            connection = self._ranks.connection(self._at)
            try:
                connection.send_bytes(sent)
                answer = connection.recv_bytes()
            except (EOFError, OSError):
                if self._ranks.lost(connection):
                    raise WorkerError("its process was killed") from None
                continue
            if answer != rank.TERMINATED:
                return pickle.loads(answer)
            self._ranks.lost(connection)

    def stop(self) -> None:
        self._ranks.stop()


COMMAND = (sys.executable, "-m", "torch.distributed.run", "--standalone")


def _place_of_tasks(place: str, key: str) -> dict[str, str]:
    """The environment in which ranks find the socket, and the modules of whoever starts them."""
    return {rank.PLACE: place, rank.KEY: key, "PYTHONPATH": module_paths()}


def _hang_up(connection: Connection) -> None:
    """End a connection for both sides, also where a thread waits for what comes from it."""
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)


def _give_up(place: str, key: str, torchrun: "subprocess.Popen[bytes]") -> None:
    """Wake the one who waits for ranks when torchrun has ended, or takes too long."""
    with suppress(subprocess.TimeoutExpired):
        torchrun.wait(rank.SECONDS)
    with suppress(OSError, EOFError):
        Client(place, "AF_UNIX", authkey=key.encode()).send(None)


def _reason(log: Path) -> str:
    """The last error that a rank or torchrun wrote down, or else the last thing that torchrun said."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    said = [line for line in lines if re.search("[A-Za-z]", line)] or [
        "it said nothing, as when it is killed"
    ]
    errors = [line for line in said if re.match(r"(\[rank\d+\]: )?[\w.]+(Error|Exception): ", line)]
    return next((line for line in reversed(errors) if "ChildFailedError" not in line), said[-1])
