"""Extractions whose processes are killed, and what they had computed by then."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

from cache import rows_there, shard_paths
from pipeline.config import ExtractConfig
from pipeline.extraction.stage import extract_shard
from support.sharing import flags

ROOT = Path(__file__).parents[2]
COUNTING = """
import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent


class Counting(nn.Sequential):
    def forward(self, images):
        if len(images) > 2:  # one at a time is the comparison with the live trunk, two its shape
            time.sleep(0.02)
            with open(HERE / "computed", "a") as log:
                log.write(f"{len(images)}\\n")
            if (HERE / "kill").exists() and len((HERE / "computed").read_text().split()) > 20:
                (HERE / "kill").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


def trunk():
    torch.manual_seed(0)
    return Counting(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
"""
"""A trunk that takes its time and writes down how many images it computes; where a file `kill` is, it kills
its process in the middle."""


def count_computed(images: Path) -> int:
    """How many images were computed since the last call."""
    log = images / "computed"
    counted = sum(map(int, log.read_text().split())) if log.exists() else 0
    log.unlink(missing_ok=True)
    return counted


def rows_whole(cache: Path, split: str, files: int) -> int:
    """How many images of a split are in whole blocks."""
    paths = shard_paths(cache / f"{split}.json", files) if files > 1 else [cache / f"{split}.h5"]
    return sum(map(rows_there, paths))


class Ended(NamedTuple):
    """An extraction that was killed, or got through."""

    code: int
    said: str
    seconds: float


def run_command(settings: ExtractConfig, kill_after: float | None, draw: Random) -> Ended:
    """Extract in a process of its own. After so many seconds kill it, or one of the processes below it."""
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "extract_features.py"), *flags(settings)]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        if kill_after is not None:
            try:
                running.wait(kill_after)
            except subprocess.TimeoutExpired:
                below = list(descendants(running.pid))
                with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(draw.choice([*below, running.pid]), signal.SIGKILL)
        _, said = running.communicate(timeout=120)  # until the last process below it is gone
    return Ended(running.returncode, said, time.monotonic() - started)


def share_out(settings: ExtractConfig, kill_after: float | None, draw: Random) -> Ended:
    """Have two forked processes do a share each. After so many seconds kill one of them, or both."""
    started, left = time.monotonic(), {_forked(settings, rank) for rank in range(2)}
    victims = draw.choice([list(left), *([pid] for pid in left)])
    codes = list[int]()
    while left:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in left:
            left.discard(pid)
            codes.append(os.waitstatus_to_exitcode(status))
        elif kill_after is not None and time.monotonic() - started > kill_after:
            for victim in left.intersection(victims):
                os.kill(victim, signal.SIGKILL)
            kill_after = None
        else:
            time.sleep(0.002)
    return Ended(min(codes) or max(codes), "", time.monotonic() - started)


def _forked(settings: ExtractConfig, rank: int) -> int:
    """A process that does a rank's share: exit code 0, or 1 when it raises."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        extract_shard(settings, rank, 2)
        code = 0
    finally:
        os._exit(code)


def descendants(process: int) -> Iterator[int]:
    """Every process below another one, but for the helper that cleans up after them all."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            is_helper = b"resource_tracker" in (folder / "cmdline").read_bytes()
        except (OSError, IndexError):
            continue
        if parent == process and not is_helper:
            yield int(folder.name)
            yield from descendants(int(folder.name))
