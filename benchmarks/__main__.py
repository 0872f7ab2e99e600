"""`make bench`: every benchmark, one table, and the figures as JSON in artifacts/bench.json.

Both sides of each are timed in one process, in turns, and their results are asserted to be equal. Ratios are
what counts. A benchmark that fails is a row. Run again, those that are missing or failed are run; when none
is, all are. --page puts the figures into docs/benchmarks.json and the tables of docs/benchmarks.md.
"""

import argparse
import datetime
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import results
from benchmarks.machine import Others, commit, libraries, machine
from benchmarks.page import number, write_page
from benchmarks.registry import BENCHMARKS
from benchmarks.results import Result
from pipeline.progress import duration
from pipeline.runs.table import table

FIGURES, KEPT, PAGE = (
    Path(name) for name in ("artifacts/bench.json", "docs/benchmarks.json", "docs/benchmarks.md")
)


def main(words: list[str]) -> int:
    """Returns the exit code: 1 when a benchmark failed."""
    asked = parser().parse_args(words)
    if asked.page:
        return make_page()
    like = {"machine": machine(), "libraries": libraries(), "commit": commit(), "quick": asked.quick}
    before, names = results.read(FIGURES), asked.only or list(BENCHMARKS)
    print(*filter(None, [like[key] for key in ("machine", "libraries", "commit")]), sep="; ", flush=True)
    if not (asked.only or asked.anew):
        names = results.missing(before, names, like) or names
        if len(names) < len(BENCHMARKS):
            print(
                f"{len(BENCHMARKS) - len(names)} of {len(BENCHMARKS)} are in {FIGURES}; --anew runs them too"
            )
    try:
        done = measure_all(names, like)
    except KeyboardInterrupt:
        print(f"stopped; what was done is in {FIGURES}, and the same command goes on")
        return 130
    columns = ("name", "ours", "theirs", "unit", "ratio", "target")
    print(
        table(columns, [cells for result in done for cells in table_rows(result, columns)]), FIGURES, sep="\n"
    )
    return any("error" in result for result in done)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.add_argument("--quick", action="store_true", help="less of everything, to see that they run")
    only = {"nargs": "+", "choices": BENCHMARKS, "metavar": "NAME"}
    made.add_argument("--only", **only, help=f"run these, whether they were or not: {', '.join(BENCHMARKS)}")
    made.add_argument("--anew", action="store_true", help="run all, also those whose figures are there")
    made.add_argument(
        "--page", action="store_true", help=f"run nothing; put {FIGURES} into {KEPT} and {PAGE}"
    )
    return made


def measure_all(names: list[str], like: Result) -> list[Result]:
    """Run benchmarks one after the other, and write the figures after each."""
    found = results.read(FIGURES)
    known = {
        x["benchmark"]: x["seconds"] for x in (*results.read(KEPT), *found) if x["quick"] == like["quick"]
    }
    done: list[Result] = []
    for place, name in enumerate(names):
        print(f"{place + 1}/{len(names)} {name}{time_left(names[place:], known)}", flush=True)
        done.append(measure(name, like))
        known[name] = done[-1]["seconds"]
        found = results.merged(found, done)
        results.write(FIGURES, found)
    return done


def measure(name: str, like: Result) -> Result:
    """Run one in a process of its own; whatever becomes of it is a result."""
    now, others, started = datetime.datetime.now().astimezone(), Others(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "rows.json"
        words = [
            sys.executable,
            "-m",
            "benchmarks.alone",
            name,
            str(file),
            *(["--quick"] if like["quick"] else []),
        ]
        code = subprocess.run(words).returncode
        found = (
            json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"error": f"exit code {code}"}
        )
    facts = {"date": now.isoformat(timespec="seconds"), "load": others.cores()}
    return {"benchmark": name, **like, **facts, "seconds": round(time.perf_counter() - started, 1), **found}


def time_left(names: list[str], known: dict[str, float]) -> str:
    """How long the first and all of some benchmarks take, by what they took before; one that was never run
    takes the mean of the others."""
    took = [seconds for seconds in known.values() if seconds is not None]
    if not took:
        return ""
    mean = sum(took) / len(took)
    expected = [mean if known.get(name) is None else known[name] for name in names]
    return f": about {duration(expected[0])}, all that is left {duration(sum(expected))}"


def table_rows(result: Result, columns: tuple[str, ...]) -> list[list[str]]:
    """The lines of a result in the table: its rows, or why there are none."""
    if not (rows := result.get("rows")):
        why = f"failed: {result['error']}" if "error" in result else "nothing to do on this machine"
        return [[f"{result['benchmark']}: {why}", *[""] * (len(columns) - 1)]]
    return [[_cell(row[column]) for column in columns] for row in rows]


def make_page() -> int:
    """Put the figures that are worth it into the page's file, and the page's tables from that."""
    new = [result for result in results.read(FIGURES) if results.worth_telling(result)]
    kept = results.merged(results.read(KEPT), new)
    results.write(KEPT, kept)
    write_page(PAGE, kept)
    print(f"{len(new)} benchmarks of {FIGURES}", KEPT, PAGE, sep="\n")
    return 0


def _cell(value: object) -> str:
    return number(value) if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
