"""Faults that were tried and survived, for the table that `make faults` ends with."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

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
