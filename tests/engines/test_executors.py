"""Every engine, really started: what its workers give, and what is left when one of them dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from support import tasks
from support.engines import skip_without

from pipeline.engines import local
from pipeline.engines.executors import ENGINES, open_executor
from pipeline.engines.pool import WorkerError, WorkerPool
from pipeline.errors import ConfigError, RunError

ROOT = Path(__file__).parents[2]


SLOW = {"ray", "submitit"}
"""Engines whose start takes longest."""


@pytest.fixture(
    params=[pytest.param(name, marks=[pytest.mark.faults] if name in SLOW else []) for name in ENGINES]
)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """An engine whose package is installed; its workers find this project and the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tests"))))
    monkeypatch.chdir(tmp_path)
    return skip_without(request.param)


def test_an_engine_gives_what_a_loop_gives_and_a_worker_that_dies_fails_its_own_task(
    engine: str, tmp_path: Path
) -> None:
    """In one executor, for to start the workers of some takes seconds."""
    handler = signal.getsignal(signal.SIGTERM)
    with open_executor(engine, 2, [tmp_path / "made"]) as executor:
        assert signal.getsignal(signal.SIGTERM) is handler
        assert list(executor.map(tasks.square, range(3))) == [0, 1, 4]
        lost, other = executor.submit(tasks.die), executor.submit(tasks.square, 3)
        where, wrong = executor.submit(tasks.directory), executor.submit(tasks.refuse, "a task's own error")
        with pytest.raises(WorkerError):
            lost.result()
        assert other.result() == 9
        assert where.result() == str(tmp_path)
        with pytest.raises(ValueError, match="own error") as caught:
            wrong.result()
        assert str(caught.value) == "a task's own error"
        assert "in refuse" in caught.value.__notes__[0]  # where in the worker
        (mark,) = (tmp_path / "made").iterdir()
        mark.unlink()  # as on a machine that has another folder of this name
        with pytest.raises(RunError, match=rf"^the worker on \S+ doesn't see .* {tmp_path}/made; give"):
            executor.submit(tasks.square, 1).result()
    assert not list((tmp_path / "made").iterdir())


def test_an_exception_ends_the_workers_at_once(engine: str, tmp_path: Path) -> None:
    begun = tmp_path / "never.begun"

    def interrupted() -> None:
        with open_executor(engine, 2) as executor:
            waiting = executor.submit(tasks.ignore_interrupts, tmp_path / "never")
            while not begun.exists() or not begun.read_text():
                assert not waiting.done()
                time.sleep(0.05)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    until = time.monotonic() + 20
    while is_at_work(int(begun.read_text())):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_an_exception_while_workers_start_ends_them_too(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a thread of the command would wait for ever for a task that nobody stops."""

    def slow_processes(*arguments: Any, really: Callable[..., Any] = local.processes) -> Any:
        time.sleep(0.5)  # else the moment is too short to hit
        return really(*arguments)

    def interrupted() -> None:
        with open_executor(engine, 2) as executor:
            for _ in range(2):
                executor.submit(tasks.wait_for, tmp_path / "never")
            time.sleep(0.1)
            raise KeyboardInterrupt

    monkeypatch.setattr(local, "processes", slow_processes)
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
        waiting = [thread for thread in threading.enumerate() if thread.name.startswith("worker_")]
        for thread in waiting:
            thread.join(20)
        assert not any(thread.is_alive() for thread in waiting)
    finally:
        (tmp_path / "never").touch()


PROGRAM = """
import signal, sys, time
from pathlib import Path
from pipeline.engines import local
from pipeline.engines.executors import open_executor
from support import tasks

def interrupted_stop(worker, really=local.LocalWorker.stop):
    signal.raise_signal(signal.SIGINT)
    really(worker)

if __name__ == "__main__":
    local.LocalWorker.stop = interrupted_stop
    with open_executor(sys.argv[1], 2) as executor:
        waiting = [executor.submit(tasks.wait_for, Path(name).absolute()) for name in "ab"]
        while not all(Path(name + ".begun").exists() for name in "ab"):
            assert not any(task.done() for task in waiting)
            time.sleep(0.05)
        print("begun", flush=True)
        input()
        raise KeyboardInterrupt
"""


@contextmanager
def started(command: list[str], folder: Path, path: str) -> Iterator["subprocess.Popen[str]"]:
    """A program in a process group of its own, of which nothing is left behind."""
    environment = os.environ | {"PYTHONPATH": path}
    running = subprocess.Popen(
        command, cwd=folder, env=environment, text=True, start_new_session=True, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.communicate(timeout=60)


def is_at_work(process: int) -> bool:
    """Not gone, nor dead and waiting for somebody who asks."""
    try:
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False


def test_a_second_interrupt_doesn_t_leave_workers_at_work(tmp_path: Path) -> None:
    """They have inherited the output, which is closed only when none is left."""
    (tmp_path / "program.py").write_text(PROGRAM)
    words, path = [sys.executable, "program.py", "local"], os.pathsep.join(map(str, (ROOT, ROOT / "tests")))
    with started(words, tmp_path, path) as running:
        said, problems = running.communicate("\n", timeout=60)
    assert said == "begun\n"
    assert "KeyboardInterrupt" in problems


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_fails_to_stop_doesn_t_keep_the_others_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tests"))))

    def failing_stop(worker: local.LocalWorker, really: Callable[..., None] = local.LocalWorker.stop) -> None:
        really(worker)
        raise OSError("it has no effect")

    monkeypatch.setattr(local.LocalWorker, "stop", failing_stop)
    try:
        with open_executor("local", 2) as executor:
            tried = [executor.submit(tasks.wait_for, tmp_path / name) for name in "ab"]
            while not all((tmp_path / f"{name}.begun").exists() for name in "ab"):
                assert not any(task.done() for task in tried)
                time.sleep(0.05)
            assert isinstance(executor, WorkerPool)
            executor.stop()  # as after an exception
            assert not wait(tried, 20).not_done
    finally:
        for name in "ab":
            (tmp_path / name).touch()


def test_workers_of_a_killed_command_go_too(engine: str, tmp_path: Path) -> None:
    if not ENGINES[engine].is_own:
        pytest.skip("its cluster may be somebody else's")
    (tmp_path / "program.py").write_text(PROGRAM)
    path = os.environ["PYTHONPATH"]
    with started([sys.executable, "program.py", engine], tmp_path, path) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.kill()
        running.wait(60)
        workers = [int((tmp_path / f"{name}.begun").read_text()) for name in "ab"]
        until = time.monotonic() + 20
        while any(map(is_at_work, workers)):
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.mark.parametrize("name", [name for name in ENGINES if ENGINES[name].package])
def test_an_engine_whose_package_is_missing_is_refused_with_what_brings_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = ENGINES[name].package
    assert package
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, ENGINES[name].module, raising=False)
    expected = rf'^--engine {name}: needs the package {package}; pip install "ten-crop-cache\[{name}\]"$'
    with pytest.raises(ConfigError, match=expected), open_executor(name, 1):
        pass
