"""Processes that end with their parent, however it ends: real signals to a real program."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.engines.processes import in_order, processes, threads
from pipeline.errors import DataError

PROGRAM = """
import signal, time
from pipeline.engines.processes import in_order, processes

def start():
    pass

def is_safe():
    time.sleep(0.01)
    return {signal.SIGINT, signal.SIGTERM} <= signal.pthread_sigmask(signal.SIG_BLOCK, [])

if __name__ == "__main__":
    with processes(2, start) as pool:
        print("started", flush=True)
        for safe in in_order(is_safe, [()] * 10_000, pool, 8):
            print("at work" if safe else "at work in danger", flush=True)
"""


def square(number: int) -> int:
    return number**2


def end(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def nothing() -> None:
    pass


@pytest.fixture
def program(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A program at work in two processes, in a process group of its own as a terminal gives it."""
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    running = subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3]))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield running
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate()


def wait_for(line: str, program: subprocess.Popen[str]) -> None:
    assert program.stdout is not None
    assert line + "\n" in program.stdout


def end_of(program: subprocess.Popen[str]) -> str:
    """What it said on stderr. The pipe is open until the last process that inherited it is gone."""
    return program.communicate(timeout=30)[1]


@pytest.mark.parametrize("moment", ["started", "at work"])
def test_an_interrupt_from_the_keyboard_reaches_the_parent_alone(
    program: subprocess.Popen[str], moment: str
) -> None:
    wait_for(moment, program)
    os.killpg(program.pid, signal.SIGINT)
    said = end_of(program)
    assert said.count("Traceback") == 1  # the program's own: it does not catch the interrupt
    assert said.rstrip().endswith("KeyboardInterrupt")


def test_workers_of_a_killed_parent_go_too(program: subprocess.Popen[str]) -> None:
    wait_for("at work", program)
    program.kill()
    end_of(program)


def test_a_killed_worker_is_one_clear_error() -> None:
    with processes(2, nothing) as pool, pytest.raises(DataError, match=r"was killed.*--workers"):
        list(in_order(end, [(1,), (2,)], pool, 2))


@pytest.mark.parametrize("ahead", [0, 1, 100])
def test_results_come_in_order(ahead: int) -> None:
    tasks = [(i,) for i in range(50)]
    expected = [i**2 for i in range(50)]
    assert list(in_order(square, tasks, None, ahead)) == expected
    with threads(3) as pool:
        assert list(in_order(square, tasks, pool, ahead)) == expected


def test_an_error_comes_at_its_place_in_the_order() -> None:
    def invert(number: int) -> float:
        return 1 / number

    with threads(2) as pool:
        results = in_order(invert, [(1,), (2,), (0,), (3,)], pool, 10)
        assert next(results) == 1
        assert next(results) == 0.5
        with pytest.raises(ZeroDivisionError):
            next(results)
