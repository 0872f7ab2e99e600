"""Caches that several tests read, and the table of faults that `make faults` ends with."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from samples import extract, header

SURVIVED = pytest.StashKey[Counter[str]]()
Survived = Callable[[str, int], None]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,500 rows of one 2×2×2 map in three blocks. Not to be changed."""
    return extract(tmp_path_factory.mktemp("sample") / "train.h5", header())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three rows, a file of 5,632 bytes. Not to be changed."""
    return extract(tmp_path_factory.mktemp("tiny") / "train.h5", header(3, map_shape=(16, 4, 4)))


@pytest.fixture
def copy(sample: Path, tmp_path: Path) -> Path:
    """The sample, to be damaged."""
    return Path(shutil.copy(sample, tmp_path))


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Survived:
    """Counts faults that were tried and survived; one that isn't survived fails its test."""
    counts = request.config.stash.setdefault(SURVIVED, Counter())

    def count(fault: str, times: int) -> None:
        counts[fault] += times

    return count


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash.get(SURVIVED, Counter())
    if counts and config.getoption("markexpr") == "faults":
        terminalreporter.section("faults tried and survived")
        for fault, times in counts.items():
            terminalreporter.write_line(f"{times:8,}  {fault}")
