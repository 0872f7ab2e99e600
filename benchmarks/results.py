"""Figures as JSON: those of a run in artifacts/bench.json, those of the page in docs/benchmarks.json.

    {"results": [{"benchmark", "machine", "libraries", "commit", "date", "load", "seconds", "quick", "rows"}]}

`load` is how many cores other processes kept busy meanwhile; `error` stands instead of rows. In the page's
file a `note` says what is known instead of a load, or of a row; `ours` and `theirs` are null where only their
ratio was kept.
"""

import json
from pathlib import Path
from typing import Any

from pipeline.files import write_text

Result = dict[str, Any]


def read(path: Path) -> list[Result]:
    """The results in a file; none when there is no such file."""
    return json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []


def write(path: Path, results: list[Result]) -> None:
    """Write results, whole or not at all."""
    write_text(path, json.dumps({"results": results}, indent=1, ensure_ascii=False) + "\n")


def merged(old: list[Result], new: list[Result]) -> list[Result]:
    """The old results, each replaced by the new one of its benchmark and machine, where there is one."""
    latest = {_place(result): result for result in (*old, *new)}
    return list(latest.values())


def missing(results: list[Result], names: list[str], like: Result) -> list[str]:
    """The benchmarks that have no figures yet of this machine, code and amount of work."""
    same = "machine", "commit", "quick"
    done = {x["benchmark"] for x in results if "rows" in x and all(x[key] == like[key] for key in same)}
    return [name for name in names if name not in done]


def worth_telling(result: Result) -> bool:
    """Whether figures may stand in the page: not of a quick run, nor where there are none."""
    return not result["quick"] and bool(result.get("rows"))


def _place(result: Result) -> tuple[str, str, bool]:
    return result["benchmark"], result["machine"], result["quick"]
