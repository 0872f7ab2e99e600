"""`python -m benchmarks.NAME [--quick]`: one benchmark, a line per row."""

import sys
from collections.abc import Callable
from typing import Any


def row(name: str, ours: float, theirs: float, target: float, unit: str) -> dict[str, Any]:
    """A line of a benchmark in which less is better: the ratio is theirs / ours."""
    figures = {"ours": ours, "theirs": theirs, "ratio": theirs / ours, "target": target}
    return {"name": name, **figures, "unit": unit}


def main(run: Callable[[bool], list[dict[str, Any]]]) -> None:
    for row in run("--quick" in sys.argv):
        print("{name}: {ours:.3g} against {theirs:.3g} {unit}, {ratio:.2f} (target {target})".format(**row))
