"""Run the project's scripts as a user would, without importing torch for each run: in forked children.

For programs that import a stage's module, and neither compute nor train themselves, before they fork: threads
that a parent has started are not in its children.
"""

import os
import runpy
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pipeline.cli  # noqa: F401  # so that it is there when a child is stopped

ROOT = Path(__file__).parents[2]
SECONDS = 400
"""A run that takes longer is ended, and found wanting."""


class Ended(NamedTuple):
    """How a run ended: 0, an exit code, or minus a signal."""

    code: int
    said: str
    """What came on stderr."""
    seconds: float


def run(
    script: str, flags: list[str], said: Path, prepare: Callable[[], object], stop: str, after: float
) -> Ended:
    """Run a script in a child, and send it the signal `stop`, if any, so many seconds after it has begun.

    `prepare` is called in the child first; `said` is a file for stderr.
    """
    ready, tell = os.pipe()
    if not (pid := os.fork()):
        os._exit(_child(script, flags, said, prepare, tell))
    os.close(tell)
    os.read(ready, 1)  # returns when the child closes its end
    os.close(ready)
    begun = time.perf_counter()
    if stop:
        time.sleep(after)
        os.kill(pid, getattr(signal, stop))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ended(code, said.read_text(), time.perf_counter() - begun)


def _child(script: str, flags: list[str], said: Path, prepare: Callable[[], object], ready: int) -> int:
    signal.alarm(SECONDS)
    for number, path in ((1, Path(os.devnull)), (2, said)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), number)
    prepare()
    sys.argv = [str(ROOT / script), *flags]
    os.close(ready)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as stop:
        sys.stderr.flush()
        return int(stop.code or 0)
    return 1
