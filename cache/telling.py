"""Lines on the standard error about work that takes long."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress

FIRST_SECONDS, EVERY_SECONDS = 10.0, 30.0
"""When work says how far it is."""


def tell(line: str) -> None:
    """Print on the standard error, if there is one that takes it."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(line, file=sys.stderr, flush=True)


def watching(what: str, done: str) -> Callable[[float], None]:
    """To be told now and then which share is done, and to say it every half minute: "FILE: 40% checked"."""
    begin, due = time.perf_counter(), FIRST_SECONDS

    def watch(share: float) -> None:
        nonlocal due
        if (spent := time.perf_counter() - begin) >= due:
            due += EVERY_SECONDS
            tell(f"{what}: {share:.0%} {done}, about {spent * (1 - share) / share:.0f} s left")

    return watch
