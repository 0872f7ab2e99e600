"""Progress as a log and a terminal show it, and what is said of long work beforehand."""

import os
import re
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.progress import Progress, duration, over, say, shown, speed

ROOT = Path(__file__).parents[1]


class Clock:
    """A clock that goes on when it is told to."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of every `Progress`, whose own thread then says nothing."""
    fake = Clock()
    monkeypatch.setattr(shown, "time", SimpleNamespace(perf_counter=lambda: fake.now))
    monkeypatch.setattr(Progress, "_watch", lambda self: None)
    return fake


def steps(work: Progress, clock: Clock, count: int, seconds: float) -> None:
    for _ in range(count):
        clock.now += seconds
        work.advance()
        work._estimate()


def test_an_estimate_leaves_the_first_step_out(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 1001, "steps") as work:
        steps(work, clock, 1, 20.0)
        steps(work, clock, 10, 1.0)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "work: about 17 min in all"  # 20 s + 1,000 × 1 s, not 1,001 × 20 s


def test_an_estimate_waits_until_steps_were_watched(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 100_000, "steps") as work:
        steps(work, clock, 25, 0.1)
        assert capsys.readouterr().err == ""
        steps(work, clock, 10, 0.1)
        assert capsys.readouterr().err == "work: about 2 h 47 min in all\n"


def test_short_work_is_not_estimated(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 50, "steps") as work:
        steps(work, clock, 50, 1.0)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("slower", "says"), [(1.3, 0), (3.0, 1)])
def test_an_estimate_is_corrected_once_it_is_far_off(
    slower: float, says: int, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with Progress("work", 601, "steps") as work:
        steps(work, clock, 11, 1.0)
        assert capsys.readouterr().err == "work: about 10 min in all\n"
        steps(work, clock, 300, slower)
        said = re.findall(r"^work: about \d+ min in all, not 10 min$", capsys.readouterr().err, re.M)
        assert len(said) == says


def test_what_was_done_before_takes_no_time(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 1000, "steps", done=900) as work:
        steps(work, clock, 10, 1.0)
        assert work._status() == "work: 91% (910 of 1,000 steps), 1.0 steps/s, about 90 s left".replace(
            "90 s", "2 min"
        )


def test_a_log_gets_whole_lines_and_a_last_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shown, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(shown, "EVERY_SECONDS", 0.1)
    for _ in over(range(50), "work", "steps"):
        time.sleep(0.02)
    lines = capsys.readouterr().err.splitlines(keepends=True)
    assert 2 < len(lines) < 40
    assert all(re.fullmatch(r"work: \d+% \(\d+ of 50 steps\)[^\r]*\n", line) for line in lines[:-1])
    assert re.fullmatch(r"work: done, 50 steps in \d s\n", lines[-1])


def test_work_that_fails_does_not_end_with_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shown, "FIRST_SECONDS", 0.05)
    with suppress(KeyboardInterrupt), Progress("work", 9, "steps") as work:
        work.advance(3)
        time.sleep(0.3)
        raise KeyboardInterrupt
    assert capsys.readouterr().err.splitlines()[-1] == "work: 33% (3 of 9 steps)"


def test_work_of_less_than_ten_seconds_leaves_a_log_empty(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(over(range(3), "work", "steps")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


TERMINAL = """
import time
from pipeline.progress import *
secure_output()
for i in over(range(30), "work", "steps"):
    time.sleep(0.02)
    if i == 20:
        say("a result")
print("the end")
"""


def test_a_terminal_gets_a_bar_and_results_on_lines_of_their_own() -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    process = subprocess.Popen([sys.executable, "-c", TERMINAL], stdout=theirs, stderr=theirs, cwd=ROOT)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"/30" in shown
    text = shown.decode().replace("\r\n", "\n")
    assert re.search(r"\r\s*\ra result\n", text)
    assert re.search(r"\r\s*\rthe end\n$", text)


def test_say_is_a_print_where_there_is_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("work", 1, "steps"):
        say("a result")
    assert capsys.readouterr() == ("a result\n", "")


def test_showing_progress_takes_less_than_a_hundredth_of_a_step_of_a_millisecond() -> None:
    with Progress("work", 100_000, "steps") as work:
        started = time.process_time()
        for _ in range(20_000):
            work.advance()
        assert (time.process_time() - started) / 20_000 < 1e-5


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.6, "60 s"),
        (89, "89 s"),
        (90, "2 min"),
        (24 * 60, "24 min"),
        (5399, "90 min"),
        (5400, "1 h 30 min"),
        (2 * 3600 - 1, "2 h"),
        (7800, "2 h 10 min"),
        (35 * 3600, "35 h"),
        (76 * 3600, "3 d 4 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("rate", "words"),
    [(1234.5, "1,234 images/s"), (2.5, "2.5 images/s"), (0.5, "30 images/min"), (0.01, "36.0 images/h")],
)
def test_a_speed_is_a_number_above_one(rate: float, words: str) -> None:
    assert speed(rate, "images") == words
