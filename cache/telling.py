"""Lines on the standard error about work that takes long; in a terminal, one that changes."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

FIRST_SECONDS, EVERY_SECONDS = 10.0, 30.0
"""When work says how far it is, where its lines are kept."""
LIVE_SECONDS = 0.2
"""How often it does in a terminal."""
_BAR = 30


def tell(line: str) -> None:
    """Print on the standard error, if there is one that takes it."""
    _put(f"{line}\n")


@contextmanager
def watching(what: str, done: str) -> Iterator[Callable[[float], None]]:
    """To be told now and then which share is done, and to say it: "FILE: 40% checked, about 12 s left".

    Every half minute, or, in a terminal, in a line with a bar that goes away in the end.
    """
    live = sys.stderr is not None and sys.stderr.isatty()
    begin, due, shown = time.perf_counter(), LIVE_SECONDS if live else FIRST_SECONDS, False

    def watch(share: float) -> None:
        nonlocal due, shown
        if (spent := time.perf_counter() - begin) < due or not share:
            return
        due = spent + LIVE_SECONDS if live else due + EVERY_SECONDS
        left = f"{share:.0%} {done}, about {spent * (1 - share) / share:.0f} s left"
        if live:
            _put(f"\r\x1b[K{what}: [{'#' * round(share * _BAR):<{_BAR}}] {left}")
            shown = True
        else:
            tell(f"{what}: {left}")

    try:
        yield watch
    finally:
        if shown:
            _put("\r\x1b[K")


def _put(text: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, end="", file=sys.stderr, flush=True)
