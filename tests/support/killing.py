"""Extractions whose processes are killed, and what they had computed by then."""

import contextlib
import os
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple, NoReturn

from cache import rows_there, shard_paths
from pipeline.cli import COMMANDS, main
from pipeline.config import ExtractConfig
from pipeline.extraction.stage import extract_shard
from support.sharing import flags

ROOT = Path(__file__).parents[2]
MARK = "TENCROP_STARTED_BY"
"""A variable of the processes that a command starts."""
SECONDS = 120
"""How long a command may take, and again what it leaves behind."""
COUNTING = """
import os
import signal
import time
from pathlib import Path

import torch
from torch import nn

HERE = Path(__file__).parent


class Counting(nn.Sequential):
    batches = 0

    def forward(self, images):
        if len(images) > 2:  # one at a time is the comparison with the live trunk, two its shape
            time.sleep(0.02)
            with open(HERE / "computed", "a") as log:
                log.write(f"{len(images)}\\n")
            while (HERE / "hold").exists():
                time.sleep(0.05)
            self.batches += 1
            if self.batches > 20 and (HERE / "kill").exists():
                (HERE / "kill").unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(images)


def trunk():
    torch.manual_seed(0)
    return Counting(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU())
"""
"""A trunk that takes its time and writes down how many images it computes; where a file `kill` is, it kills
its process at its 21st batch, and where a file `hold` is, it waits until it is gone."""


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
    kills: int
    """How often it came to it."""


Moment = Callable[[], bool]
"""Whether it has come."""


def at_any_time(draw: Random, seconds: float) -> Moment:
    """Within so many seconds from now."""
    when = time.monotonic() + draw.uniform(0, seconds)
    return lambda: time.monotonic() > when


def in_the_work(draw: Random, images: Path, missing: int) -> Moment:
    """When some of the images that are missing are computed."""
    wanted, log = draw.uniform(0, missing), images / "computed"
    return lambda: log.exists() and sum(map(int, log.read_text().split("\n")[:-1])) >= wanted


def run_command(settings: ExtractConfig, moments: Sequence[Moment], draw: Random, folder: Path) -> Ended:
    """Extract by the command, in a process forked from this one, which is warm, and that works in a folder.

    When a moment comes kill it, or one of the processes that it started, whichever way; then wait until none
    of them is left.
    """
    started, mark, left, kills = time.monotonic(), secrets.token_hex(8), list(moments), 0
    with (folder / "said").open("w+b") as said:
        command = _command(settings, folder, mark, said.fileno())
        while not (ended := os.waitpid(command, os.WNOHANG))[0]:
            if left and left[0]():
                del left[0]
                kills += _killed(draw.choice([command, *_marked(mark)]))
            if time.monotonic() - started > SECONDS:
                _refuse_to_wait(mark, f"{settings.engine}: the command goes on for {SECONDS} s")
            time.sleep(0.005)
        seconds = time.monotonic() - started
        while there := _marked(mark):
            if time.monotonic() - started > 2 * SECONDS:
                _refuse_to_wait(mark, f"{settings.engine}: {len(there)} processes are left")
            time.sleep(0.1)
        said.seek(0)
        return Ended(os.waitstatus_to_exitcode(ended[1]), said.read().decode(), seconds, kills)


def _killed(process: int) -> bool:
    """Whether it hadn't ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
        return True
    return False


def _command(settings: ExtractConfig, folder: Path, mark: str, said: int) -> int:
    """A process that runs extract_features.py; what it starts has a mark in the environment."""
    if pid := os.fork():
        return pid
    os.setsid()
    os.chdir(folder)
    os.environ[MARK] = mark
    nowhere = os.open(os.devnull, os.O_RDWR)
    for fd, to in ((nowhere, 0), (nowhere, 1), (said, 2)):
        os.dup2(fd, to)
    code = 1
    try:
        sys.argv = [str(ROOT / "extract_features.py"), *flags(settings)]
        sys.stdout, sys.stderr = (os.fdopen(fd, "w", closefd=False) for fd in (1, 2))
        code = main(*COMMANDS["extract"])
    except BaseException:  # noqa: BLE001 - this process must not go on as if it were the tests
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _marked(mark: str) -> list[int]:
    """The processes that a command started, however: but for the helper that cleans up after them all."""
    wanted, found = f"{MARK}={mark}".encode(), list[int]()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_helper = b"resource_tracker" in (folder / "cmdline").read_bytes()
            if not is_helper and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return found


def _refuse_to_wait(mark: str, problem: str) -> NoReturn:
    names = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200] for pid in _marked(mark)]
    for pid in _marked(mark):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"{problem}: {names}")


def share_out(settings: ExtractConfig, moments: Sequence[Moment], draw: Random) -> Ended:
    """Have two forked processes do a share each. When the first moment comes kill one of them, or both."""
    started, left = time.monotonic(), {_forked(settings, rank) for rank in range(2)}
    victims = draw.choice([list(left), *([pid] for pid in left)])
    codes, kills, moment = list[int](), 0, next(iter(moments), None)
    while left:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in left:
            left.discard(pid)
            codes.append(os.waitstatus_to_exitcode(status))
        elif moment and moment():
            kills, moment = sum(map(_killed, left.intersection(victims))), None
        else:
            time.sleep(0.002)
    return Ended(min(codes) or max(codes), "", time.monotonic() - started, kills)


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
