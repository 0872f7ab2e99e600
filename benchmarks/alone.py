"""`python -m benchmarks.NAME [--quick]`: one benchmark, a line per row.

`python -m benchmarks` runs each in a process of its own, by `python -m benchmarks.alone NAME FILE [--quick]`,
which leaves its rows, or why there are none, as JSON.
"""

import importlib
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def row(name: str, ours: float, theirs: float, target: float, unit: str) -> dict[str, Any]:
    """A line of a benchmark in which less is better: the ratio is theirs / ours."""
    figures = {"ours": ours, "theirs": theirs, "ratio": theirs / ours, "target": target}
    return {"name": name, **figures, "unit": unit}


def main(run: Callable[[bool], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Run a benchmark and print its rows; gives them."""
    rows = run("--quick" in sys.argv)
    for row in rows:
        print("{name}: {ours:.3g} against {theirs:.3g} {unit}, {ratio:.2f} (target {target})".format(**row))
    return rows


def leave(name: str, file: Path) -> int:
    """Run a benchmark by name and write `rows` or `error`. Returns the exit code."""
    try:
        found = {"rows": main(importlib.import_module(f"benchmarks.{name}").run)}
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - whatever it raises is its result
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
    file.write_text(json.dumps(found), encoding="utf-8")
    return "error" in found


if __name__ == "__main__":
    sys.exit(leave(sys.argv[1], Path(sys.argv[2])))
