"""Processes that end with their parent, however it ends: real signals to a real program."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import joblib
import pytest

from pipeline.engines import processes

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
    with suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGKILL)
    running.communicate(timeout=60)


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


def run(program: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A program that ends by itself; with the processes that it started, for they share its output."""
    (folder / "program.py").write_text(program)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "program.py"], cwd=folder, env=environment, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip


IN_THREADS = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from pipeline.engines.processes import processes

class SlowImports:
    def find_spec(name, path, target=None):
        time.sleep(0.002 * name.startswith("joblib"))

def start():
    pass

def work(seconds):
    time.sleep(seconds)
    with processes(1, start) as pool:
        return pool.submit(abs, -7).result()

if __name__ == "__main__":
    sys.meta_path.insert(0, SlowImports)
    with ThreadPoolExecutor(6) as threads:
        print(*threads.map(work, [0.05 * i for i in range(6)]))
"""


def test_threads_can_start_pools_while_one_of_them_imports_what_they_need(tmp_path: Path) -> None:
    """Modules that import each other are half made when a second thread gets to them."""
    done = run(IN_THREADS, tmp_path)
    assert (done.stdout, done.stderr) == ("7 7 7 7 7 7\n", "")


INTERRUPTED = """
import os, signal, threading, time
from joblib.externals.loky.backend.popen_loky_posix import Popen
from pipeline.engines.processes import processes

launches = []

def launch(popen, process, really=Popen._launch):
    really(popen, process)
    launches.append(popen)
    if len(launches) == 2:
        time.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)

def start():
    pass

if __name__ == "__main__":
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()  # which the signal reaches
    Popen._launch = launch
    with processes(3, start):
        print("not interrupted")
"""


def test_an_interrupt_while_processes_start_comes_when_all_are_there(tmp_path: Path) -> None:
    done = run(INTERRUPTED, tmp_path)
    assert done.stdout == ""
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


PRINTS = """
import sys
from pathlib import Path
from pipeline.engines.processes import processes
from pipeline.progress import secure_output

def start():
    print("a line of a library", flush=True)

def work():
    print("another", file=sys.stderr, flush=True)
    return open("opened", "w").fileno()

if __name__ == "__main__":
    secure_output()
    with processes(1, start) as pool:
        Path("result").write_text("safe" if pool.submit(work).result() > 2 else "in the way of prints")
"""


@pytest.mark.fault("standard output or error that is closed, full or left by its reader")
@pytest.mark.parametrize("redirection", [">&- 2>&-", ">/dev/full 2>/dev/full"])
def test_what_processes_print_may_be_lost(redirection: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PRINTS)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    line = f"{sys.executable} program.py {redirection}"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=environment, check=False, timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "result").read_text() == "safe"


@pytest.mark.parametrize("most", ["1", "2", "1000", "-3"])
def test_the_cores_are_those_that_joblib_counts(most: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.cores() == joblib.cpu_count()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", most)
    assert processes.cores() == joblib.cpu_count()
    if hasattr(os, "sched_setaffinity"):
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(mine)})
        try:
            assert processes.cores() == joblib.cpu_count() == 1
        finally:
            os.sched_setaffinity(0, mine)


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "max 100000"}, 64),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ({}, 64),
    ],
)
def test_a_container_has_as_many_cores_as_its_processor_time_makes(
    files: dict[str, str], cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "CGROUPS", tmp_path)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert processes.cores() == cores
