"""Small tasks for workers of any engine: nothing heavy is imported."""

import os
import signal
import threading
import time
from pathlib import Path


def square(number: int) -> int:
    return number * number


def directory() -> str:
    return os.getcwd()


def refuse(problem: str) -> None:
    raise ValueError(problem)


def die() -> None:
    """As a worker that the system kills for want of memory."""
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path: Path) -> str:
    """Work that goes on until somebody makes a file; says that it has begun by making another beside it."""
    path.with_suffix(".begun").write_text(str(os.getpid()))
    while not path.exists():
        time.sleep(0.05)
    return path.read_text()


def ignore_interrupts(path: Path) -> str:
    """The same, by a process that interruptions don't reach, as in a long product."""
    if threading.current_thread() is threading.main_thread():  # else they don't reach it anyway
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return wait_for(path)


def append(path: Path, word: str, seconds: float) -> None:
    """Writes a word when it has begun and again when it is done."""
    with path.open("a") as file:
        file.write(f"{word} begins\n")
        file.flush()
        time.sleep(seconds)
        file.write(f"{word} ends\n")
