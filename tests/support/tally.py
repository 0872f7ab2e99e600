"""Faults that were tried and survived, for the table that `make faults` ends with."""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

TALLY = pytest.StashKey["Tally"]()


class Tally:
    """Counts by name of the fault, in the order in which they came."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.survived: Counter[str] = Counter()

    @contextmanager
    def __call__(self, fault: str, times: int = 1) -> Iterator[None]:
        """Around what injects `fault` so many times and checks the outcome: leaving it by an exception is not
        surviving."""
        self.tried[fault] += times
        yield
        self.survived[fault] += times

    def count(self, fault: str, survived: bool) -> None:
        """One fault whose outcome is known."""
        self.tried[fault] += 1
        self.survived[fault] += survived

    def table(self) -> list[str]:
        rows = [f"{count:8,} {self.survived[fault]:9,}  {fault}" for fault, count in self.tried.items()]
        return ["   tried  survived  fault", *rows]


def tally_of(config: pytest.Config) -> Tally:
    return config.stash.setdefault(TALLY, Tally())


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """`with tally("disk full"):` around a fault and the check that it did no harm."""
    return tally_of(request.config)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test marked `fault("name")` counts as one fault, unless it counts them itself."""
    report = yield
    marker = item.get_closest_marker("fault")
    counts_itself = "tally" in getattr(item, "fixturenames", ())
    if marker and marker.args and call.when == "call" and not report.skipped and not counts_itself:
        tally_of(item.config).count(marker.args[0], report.passed)
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of several (`-n 2`) hands what it counted to the one that prints."""
    output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if output is not None:
        found = tally_of(session.config)
        output["tally"] = dict(found.tried), dict(found.survived)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes has ended: with its counts, unless it crashed."""
    found = tally_of(node.config)
    tried, survived = getattr(node, "workeroutput", {}).get("tally", ({}, {}))
    found.tried.update(tried)
    found.survived.update(survived)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Only where the faults were asked for."""
    found = tally_of(config)
    if found.tried and str(config.getoption("markexpr")).startswith("fault"):
        terminalreporter.section("faults tried and survived")
        for line in found.table():
            terminalreporter.write_line(line)
