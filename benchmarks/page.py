"""The tables of docs/benchmarks.md, made from docs/benchmarks.json, so that they say what was measured."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.registry import BENCHMARKS, rival
from benchmarks.results import Result
from pipeline.files import write_text

BEGIN, END = "<!-- tables: python -m benchmarks --page -->\n", "<!-- end of tables -->\n"
BAR = r"\|"
"""The sign between cells, in a cell."""
COLUMNS = "what is timed", "ours", "theirs", "ratio", "the other side", "date", "load"


def write_page(path: Path, results: list[Result]) -> None:
    """Put the tables between the marks of a page. Raises: ValueError when it has no marks."""
    text = path.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{path}: expected one line {BEGIN.strip()} and one {END.strip()}")
    before, rest = text.split(BEGIN)
    write_text(path, f"{before}{BEGIN}\n{tables(results)}\n{END}{rest.split(END)[1]}")


def tables(results: list[Result]) -> str:
    """A table for each machine, in the order in which they come; benchmarks in the order of the registry."""
    order = {name: place for place, name in enumerate(BENCHMARKS)}
    parts, head = [], f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|\n"
    for machine in dict.fromkeys(result["machine"] for result in results):
        mine = [result for result in results if result["machine"] == machine]
        mine.sort(key=lambda result: order.get(result["benchmark"], len(order)))
        made = "; ".join(dict.fromkeys(result["libraries"] for result in mine if result["libraries"]))
        lines = "".join(line for result in mine for line in _lines(result))
        parts += [f"### {machine}\n", f"{made}.\n" if made else "", f"{head}{lines}"]
    return "\n".join(filter(None, parts))


def _lines(result: Result) -> Iterator[str]:
    load = result.get("note", "–") if result["load"] is None else f"{result['load']:.1f}"
    for row in result["rows"]:
        source = rival(result["benchmark"], row["name"])
        cells = [
            f"{row['name']} ({row['note']})" if "note" in row else row["name"],
            *(number(row[side]) + f" {row['unit']}" * (row[side] is not None) for side in ("ours", "theirs")),
            number(row["ratio"]) + (" (less is better)" if str(row["target"]).startswith("<=") else ""),
            f"[`{source}`](../benchmarks/{source.split('.')[0]}.py)",
            result["date"][:10],
            load,
        ]
        yield f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |\n"


def number(value: Any) -> str:
    """A figure in three digits, several of them where there are several runs, or a dash for none."""
    if isinstance(value, list):
        return " and ".join(map(number, value))
    if value is None:
        return "–"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
