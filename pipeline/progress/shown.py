"""How far a stage has come: a bar in a terminal, a line every half minute in a log.

    with Progress("training", images, "images") as progress:
        progress.advance(512)

After its first steps, work that takes a minute or more says how long: "training: about 24 min in all". The
very first step doesn't count there, for libraries set themselves up in it.
"""

import threading
import time
from collections.abc import Collection, Iterable, Iterator
from typing import Any, Self, TypeVar

from pipeline.progress.lines import bars, is_shown, reporter, warn
from pipeline.progress.output import is_terminal
from pipeline.progress.words import count_text, duration, speed

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
        if is_shown():
            if is_terminal():
                self._bar = _new_bar(self)
                bars.append(self._bar)
            self._watcher.start()
        return self

    def __exit__(self, *stop: object) -> None:
        self._ended.set()
        if self._watcher.is_alive():
            self._watcher.join()
        if self._bar is not None:
            bars.remove(self._bar)
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
        if (report := reporter()) and now - self._reported > REPORT_SECONDS:
            self._reported = now
            report(self.what, self.done / (self.total or 1))

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
        parts = [f"{share:.0%} ({count_text(self.done)} of {count_text(self.total)} {self.unit})"]
        if rate := self._rate():
            parts.append(speed(rate, self.unit))
        left = self._seconds_left()
        if left is not None and not self._ended.is_set():
            parts.append(f"about {duration(left)} left")
        return f"{self.what}: {', '.join(parts)}{f'; {self._note}' if self._note else ''}"

    def _summary(self) -> str:
        seconds = time.perf_counter() - self._started
        return f"{self.what}: done, {count_text(self.done)} {self.unit} in {duration(seconds)}"


def over(items: Iterable[T], what: str, unit: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, and show how many of them are done with. Only a collection knows its own total."""
    count = len(items) if isinstance(items, Collection) else total or 0
    with Progress(what, count, unit) as progress:
        for item in items:
            yield item
            progress.advance()


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
