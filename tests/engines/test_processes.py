"""Processes that end with their parent, however it ends: real signals to a real program."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROGRAM = """
import signal, time
from pipeline.engines.processes import processes

def start():
    pass

def is_safe():
    time.sleep(0.01)
    return {signal.SIGINT, signal.SIGTERM} <= signal.pthread_sigmask(signal.SIG_BLOCK, [])

if __name__ == "__main__":
    with processes(2, start) as pool:
        print("started", flush=True)
        while True:
            print("at work" if pool.submit(is_safe).result() else "at work in danger", flush=True)
"""


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
