"""How far a stage has come: a bar in a terminal, a line every half minute in a log.

    with Progress("training", images, "images") as progress:
        progress.advance(512)

After its first steps, work that takes a minute or more says how long: "training: about 24 min in all". The
very first step doesn't count there, for libraries set themselves up in it.

Here is also what happens to output that can't be written: it is lost, and the work goes on.
"""

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Self, TypeVar

T = TypeVar("T")

FIRST_SECONDS, EVERY_SECONDS = 10.0, 30.0
"""When a log gets its first line, and how long it waits for the next."""
LONG_SECONDS = 60.0
"""Work that takes less is not estimated beforehand."""
MEASURED_SECONDS = 3.0
"""How long steps are watched before an estimate is made of them."""
FAR_OFF = 1.5
"""An estimate is corrected when it was wrong by this factor."""
REPORT_SECONDS = 0.5

_report: Callable[[str, float], object] | None = None
_silent = ContextVar("silent", default=False)
_bars: list[Any] = []


class Progress:
    """A context manager that shows how much of some work is done. Threads may share it."""

    def __init__(self, what: str, total: float, unit: str, done: float = 0) -> None:
        """Args:
        what: the work, as in "training".
        total: how much it is, in `unit`s, a plural; `done` of it were there before.
        """
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._note, self._told, self._lines = "", 0.0, 0
        self._bar: Any = None
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._started = self._reported = time.perf_counter()
        self._warm: tuple[float, float] | None = None
        self._latest = (self._started, self.done)
        if _report is None and not _silent.get():
            if _is_terminal():
                self._bar = _new_bar(self)
                _bars.append(self._bar)
            self._watcher.start()
        return self

    def __exit__(self, *stop: object) -> None:
        self._ended.set()
        if self._watcher.is_alive():
            self._watcher.join()
        if self._bar is not None:
            _bars.remove(self._bar)
            self._bar.close()
        elif self._lines:
            warn(self._status() if stop[0] else self._summary())

    def advance(self, count: float = 1) -> None:
        """Count work as done. May be called thousands of times a second."""
        with self._lock:
            self.done += count
            now = time.perf_counter()
            self._latest = now, self.done
            if self._warm is None:
                self._warm = self._latest
            if self._bar is not None:
                self._bar.update(count)
        if _report is not None and now - self._reported > REPORT_SECONDS:
            self._reported = now
            _report(self.what, self.done / (self.total or 1))

    def note(self, text: str) -> None:
        """Show a few words behind the figures, until there are others."""
        self._note = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def _watch(self) -> None:
        due = FIRST_SECONDS
        while not self._ended.wait(min(1.0, FIRST_SECONDS)):
            self._estimate()
            if self._bar is None and time.perf_counter() - self._started >= due:
                warn(self._status())
                self._lines, due = self._lines + 1, due + EVERY_SECONDS

    def _estimate(self) -> None:
        """Say how long all of it takes, if that is long and wasn't said, or was far off."""
        left = self._seconds_left()
        whole = 0 if left is None else time.perf_counter() - self._started + left
        far = self._told / FAR_OFF <= whole <= self._told * FAR_OFF
        if whole < LONG_SECONDS or far:
            return
        other = f", not {duration(self._told)}" if self._told else ""
        warn(f"{self.what}: about {duration(whole)} in all{other}")
        self._told, self._lines = whole, self._lines + 1

    def _rate(self) -> float:
        """Units a second since the first step; 0 where too little was seen."""
        if self._warm is None:
            return 0.0
        (since, before), (now, done) = self._warm, self._latest
        return (done - before) / (now - since) if now - since >= min(MEASURED_SECONDS, FIRST_SECONDS) else 0.0

    def _seconds_left(self) -> float | None:
        rate, (then, done) = self._rate(), self._latest
        return max(0.0, (self.total - done) / rate - (time.perf_counter() - then)) if rate else None

    def _status(self) -> str:
        share = self.done / self.total if self.total else 1.0
        parts = [f"{share:.0%} ({_count(self.done)} of {_count(self.total)} {self.unit})"]
        if rate := self._rate():
            parts.append(speed(rate, self.unit))
        left = self._seconds_left()
        if left is not None and not self._ended.is_set():
            parts.append(f"about {duration(left)} left")
        return f"{self.what}: {', '.join(parts)}{f'; {self._note}' if self._note else ''}"

    def _summary(self) -> str:
        seconds = time.perf_counter() - self._started
        return f"{self.what}: done, {_count(self.done)} {self.unit} in {duration(seconds)}"


def over(items: Iterable[T], what: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, and show how many of them are done with. Only a collection knows its own total."""
    count = len(items) if isinstance(items, Collection) else total or 0
    with Progress(what, count, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def say(line: str) -> None:
    """Print a line on the standard output at once, above the bars of a terminal."""
    if _silent.get():
        return
    for bar in _bars:
        bar.clear()
    print(line, flush=True)
    for bar in _bars:
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
    return _report is None and _is_terminal()


def report_to(report: Callable[[str, float], object] = lambda what, share: None) -> None:
    """From now on, show nothing in this process: call `report` with the work and the share that is done."""
    global _report
    _report = report
    secure_output()


def duration(seconds: float) -> str:
    """A time in words, in two units at most: 40 s, 24 min, 2 h 10 min, 3 d 4 h."""
    for size, large, small, step in ((86400, "d", "h", 3600), (3600, "h", "min", 60)):
        if seconds >= 1.5 * size:
            whole, rest = divmod(round(seconds / step) * step, size)
            return f"{whole} {large}" + (f" {rest // step} {small}" if rest else "")
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def speed(rate: float, unit: str) -> str:
    """Units a second, a minute or an hour, whichever is a number above one."""
    for seconds, name in ((1, "s"), (60, "min")):
        if rate * seconds >= 1:
            return f"{rate * seconds:,.{0 if rate * seconds >= 10 else 1}f} {unit}/{name}"
    return f"{rate * 3600:,.1f} {unit}/h"


class Lossy(io.FileIO):
    """A file descriptor to which writing never fails. What can't be written is lost; `error` is the first."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or len(data)
        except OSError as error:
            self.error = self.error or error
            return len(data)


def secure_output() -> None:
    """Let nothing that is printed stop this process: what a closed, full or abandoned standard output or
    error doesn't take is lost. A closed descriptor becomes /dev/null, or the next file that is opened, a
    cache say, would get the number and what libraries print.
    """
    if sys.stderr is sys.__stderr__ and not _is_terminal():
        os.environ.setdefault(
            "TQDM_DISABLE", "1"
        )  # bars of libraries, which would fill a log with one endless line
    while (null := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest number that is free
        os.set_inheritable(null, True)
    os.close(null)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is getattr(sys, f"__{name}__"):  # neither secured before nor a test's
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
            encoding = getattr(stream, "encoding", None) or "utf-8"
            buffer = io.BufferedWriter(Lossy(fd, "w", closefd=False))
            # a terminal without UTF-8 stops no stage; in a log the lines of both are in their order
            secured = io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=True)
            setattr(sys, name, secured)


def lost(stream: Any) -> OSError | None:
    """Why some of what was printed on a stream got lost: a full disk. A reader who left wanted no more."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    error = raw.error if isinstance(raw, Lossy) else None
    return None if isinstance(error, BrokenPipeError) else error


def _is_terminal() -> bool:
    with suppress(AttributeError, OSError, ValueError):  # no standard error, or one that is closed
        # in one without a size, as some containers have, a bar has no place
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).lines > 0
    return False


def _new_bar(progress: Progress) -> Any:
    from tqdm import tqdm

    tqdm.set_lock(threading.RLock())  # its own would be left behind in the system when the process is killed
    return tqdm(
        total=progress.total,
        initial=progress.done,
        desc=progress.what,
        unit=f" {progress.unit}",
        unit_scale=True,
        leave=False,
        disable=False,  # whatever TQDM_DISABLE says
    )


def warn(line: str) -> None:
    """Print a line on the standard error, in one piece, so that those of several processes don't mix."""
    with suppress(AttributeError, OSError, ValueError):  # none, full, closed from Python: the work goes on
        for bar in _bars:
            bar.clear()
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        for bar in _bars:
            bar.refresh()


def _count(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"
