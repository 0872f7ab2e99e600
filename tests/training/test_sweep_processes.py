"""A sweep's process that is killed, or has no memory, costs its own group alone."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from support.toy import write_cache
from support.trained import board, stamps

from pipeline.config import SweepConfig
from pipeline.errors import RunError
from pipeline.runs.folder import load_head
from pipeline.training.sweep import sweep

ROOT = Path(__file__).parents[2]


def process_in(folder: Path) -> int | None:
    """The process that has a folder open, as one does that trains into it."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if any(link.resolve() == folder.resolve() for link in (entry / "fd").iterdir()):
                return int(entry.name)
        except OSError:
            continue
    return None


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="finds the process in /proc")
def test_a_killed_worker_costs_its_group_alone_and_a_rerun_trains_what_is_missing(tmp_path: Path) -> None:
    folder, out = write_cache(tmp_path / "cache"), tmp_path / "run"
    slow, quick = "fullnet-ten-800x800", ["fullnet-ten-4", "fullnet-ten-5"]
    command = [
        sys.executable, str(ROOT / "train_head.py"), "--cache", str(folder), "--out", str(out), "--jobs", "2",
        "--hidden-shapes", "800x800", "4", "5", "--epochs", "40", "--batch", "16", "--device", "cpu",
    ]  # fmt: skip
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out / slow / "config.json").exists():
        assert running.poll() is None
        time.sleep(0.02)
    while (worker := process_in(out / slow)) is None:
        assert running.poll() is None
        time.sleep(0.02)
    os.kill(worker, signal.SIGKILL)
    _, said = running.communicate(timeout=300)
    assert running.returncode == 2
    *progress, last = said.splitlines()  # lines of progress, where it takes more than ten seconds
    assert all(line.startswith("training: ") for line in progress)
    assert last == (
        f"train_head.py: 1 of 3 groups failed: {slow}: its process was killed; add --resume to train what is "
        "missing"
    )
    before = {name: stamps(out / name) for name in quick}
    for name in quick:
        assert load_head(out / name)
    again = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False, timeout=300)
    assert again.returncode == 0
    assert all(line.startswith("training: ") for line in again.stderr.splitlines())
    assert {name: stamps(out / name) for name in quick} == before
    assert {head["group"] for head in board(out)["heads"]} == {slow, *quick}


def test_a_group_without_memory_costs_itself_alone(tmp_path: Path) -> None:
    folder, out = write_cache(tmp_path / "cache"), tmp_path / "run"
    command = [
        sys.executable, str(ROOT / "train_head.py"), "--cache", str(folder), "--out", str(out),
        "--hidden-shapes", "60000x60000", "4", "--epochs", "1", "--batch", "16", "--device", "cpu",
    ]  # fmt: skip
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (9 << 30, 9 << 30))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, preexec_fn=limit)
    assert done.returncode == 2
    assert done.stderr.endswith(
        "train_head.py: 1 of 2 groups failed: fullnet-ten-60000x60000: out of memory; give smaller --hidden-"
        "shapes and another --out\n"
    )
    assert load_head(out / "fullnet-ten-4")
    command[command.index("60000x60000")] = "5"
    assert subprocess.run(command, capture_output=True, check=False, timeout=300).returncode == 0


def test_a_budget_that_jobs_share_is_refused_with_what_each_needs(tmp_path: Path) -> None:
    cache = write_cache(tmp_path / "cache", shape=(64, 5, 5))

    def run(budget: int) -> Path:
        given = {"hidden_shapes": ("4", "5"), "jobs": 2, "epochs": 1, "device": "cpu"}
        return sweep(
            SweepConfig(cache=str(cache), out=str(tmp_path / "run"), memory_budget_mb=budget, **given)
        )

    with pytest.raises(RunError, match=r"at least \d+ for .*, found 1; .*; 2 workers share it") as caught:
        run(2)
    least = int(re.findall(r"at least (\d+) for", str(caught.value))[0])
    with pytest.raises(RunError, match="share it"):
        run(2 * least - 1)
    assert board(run(2 * least))["heads"]
