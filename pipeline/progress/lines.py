"""Lines on the standard output and error, above the bars of a terminal, and who shows nothing at all."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from pipeline.progress.output import is_terminal, secure_output

bars: list[Any] = []
"""Those of tqdm that are on the terminal."""
_report: Callable[[str, float], object] | None = None
_silent = ContextVar("silent", default=False)


def say(line: str) -> None:
    """Print a line on the standard output at once, above the bars of a terminal."""
    if _silent.get():
        return
    for bar in bars:
        bar.clear()
    print(line, flush=True)
    for bar in bars:
        bar.refresh()


def warn(line: str) -> None:
    """Print a line on the standard error, in one piece, so that those of several processes don't mix."""
    with suppress(AttributeError, OSError, ValueError):  # none, full, closed from Python: the work goes on
        for bar in bars:
            bar.clear()
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        for bar in bars:
            bar.refresh()


@contextmanager
def silent() -> Iterator[None]:
    """Show nothing of how far work is, and say no lines, in this thread."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


def on_terminal() -> bool:
    """Whether a library may draw a bar of its own on the standard error."""
    return _report is None and is_terminal()


def report_to(report: Callable[[str, float], object] = lambda what, share: None) -> None:
    """From now on, show nothing in this process: call `report` with the work and the share that is done."""
    global _report
    _report = report
    secure_output()


def reporter() -> Callable[[str, float], object] | None:
    """What `report_to` was given, if it was called."""
    return _report


def is_shown() -> bool:
    """Whether this thread shows how far work is."""
    return _report is None and not _silent.get()
