"""Ranks of a torchrun that starts, or is stopped, at an awkward moment."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import tasks

from pipeline.engines import rank, torchrun_workers
from pipeline.engines.executors import open_executor
from pipeline.engines.outcome import task_of
from pipeline.engines.passport import passport
from pipeline.engines.pool import WorkerError

ROOT = Path(__file__).parents[2]


def test_a_rank_whose_torchrun_was_killed_before_it_looked_ends(tmp_path: Path) -> None:
    """It has inherited the output, which is closed when it is gone; else it would wait for five minutes."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        rank.PLACE: str(tmp_path / "gone"),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "9",
        "RANK": "1",
        "WORLD_SIZE": "2",
    }
    command = ["sh", "-c", f"{sys.executable} -m {rank.__name__} &"]
    subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)


def test_a_torchrun_stopped_while_it_starts_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[subprocess.Popen[Any]] = []
    popen = subprocess.Popen

    def slow_popen(*arguments: Any, **settings: Any) -> Any:
        time.sleep(0.5)
        started.append(popen(*arguments, **settings))
        return started[0]

    monkeypatch.setattr(torchrun_workers, "COMMAND", ("sh", "-c", "exec sleep 600"))  # no rank ever comes
    monkeypatch.setattr(subprocess, "Popen", slow_popen)
    with passport([]) as wanted, torchrun_workers.open_workers(1) as (worker,):
        errors: list[Exception] = []

        def run() -> None:
            try:
                worker.run(task_of(wanted, tasks.square, 2))
            except Exception as error:  # noqa: BLE001
                errors.append(error)

        running = threading.Thread(target=run, daemon=True)
        running.start()
        time.sleep(0.1)
        stopping = threading.Thread(target=worker.stop, daemon=True)
        stopping.start()
        stopping.join(30)
        is_stuck = stopping.is_alive()
        for process in started:
            process.kill()
        running.join(30)
    assert not is_stuck
    assert not running.is_alive()
    assert len(errors) == 1
    with pytest.raises(WorkerError, match="it was stopped"):
        worker.run(task_of(wanted, tasks.square, 2))


def test_torchrun_leaves_no_folder_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (ROOT, ROOT / "tests"))))
    with open_executor("torchrun", 1) as executor:
        assert executor.submit(tasks.square, 3).result() == 9
    assert not list(tmp_path.iterdir())
