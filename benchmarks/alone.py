"""`python -m benchmarks.NAME [--quick]`: one benchmark, a line per row."""

import sys
from collections.abc import Callable
from typing import Any


def main(run: Callable[[bool], list[dict[str, Any]]]) -> None:
    for row in run("--quick" in sys.argv):
        print("{name}: {ours:.3g} against {theirs:.3g} {unit}, {ratio:.2f} (target {target})".format(**row))
