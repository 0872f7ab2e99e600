"""A rank of torchrun that does tasks; `pipeline.engines.torchrun_workers` starts it, as a module."""

import os
import pickle
import signal
import socket
import threading
from datetime import timedelta
from multiprocessing.connection import Client, Connection
from queue import SimpleQueue

from pipeline.engines.sharing import gpus

PLACE, KEY = "TENCROP_SOCKET", "TENCROP_SOCKET_KEY"
"""Variables with the path of the socket where tasks come from, and its key."""
SECONDS = 300
"""How long all ranks may take to start."""
TERMINATED = b"terminated"
"""The answer of a rank that torchrun ends because another one died."""


def main() -> None:
    """Do tasks, one after the other, until nobody gives any more."""
    connected = threading.Event()
    place, torchrun = os.environ.pop(PLACE), os.getppid()
    threading.Thread(target=_end_with, args=(torchrun, place, connected), daemon=True).start()
    import torch.distributed

    # all ranks are there, or none
    torch.distributed.init_process_group("gloo", timeout=timedelta(seconds=SECONDS))
    number = torch.distributed.get_rank()
    torch.distributed.barrier()
    if len(there := gpus()) > 1:  # those that torchrun was given, by the names that it was given
        os.environ["CUDA_VISIBLE_DEVICES"] = there[number % len(there)]
    connection = Client(place, "AF_UNIX", authkey=os.environ.pop(KEY).encode())
    connected.set()
    _tell_when_terminated(connection)
    connection.send(number)
    tasks = SimpleQueue[bytes]()
    threading.Thread(target=_receive, args=(connection, tasks), daemon=True).start()
    while True:
        outcome = pickle.loads(tasks.get())()
        connection.send_bytes(pickle.dumps(outcome))


def _end_with(torchrun: int, place: str, connected: threading.Event) -> None:
    """End this process when torchrun or the socket is gone while the ranks wait for each other: nothing else
    would. (Of a torchrun that was killed before this process looked, the socket alone tells.)"""
    while not connected.wait(0.5):
        if os.getppid() != torchrun or not os.path.exists(place):
            os._exit(1)


def _receive(connection: Connection, tasks: SimpleQueue[bytes]) -> None:
    """Queue what comes. End the process, in whatever task it is, when the other side is gone."""
    try:
        while True:
            tasks.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def _tell_when_terminated(connection: Connection) -> None:
    """Answer SIGTERM at once, though this process may be in the middle of a long product."""
    woken, wake = socket.socketpair()
    wake.setblocking(False)
    signal.set_wakeup_fd(wake.fileno())
    signal.signal(signal.SIGTERM, lambda number, frame: None)

    def tell() -> None:
        while signal.SIGTERM not in woken.recv(1):
            pass
        connection.send_bytes(TERMINATED)
        os._exit(1)

    threading.Thread(target=tell, daemon=True).start()


if __name__ == "__main__":
    main()
