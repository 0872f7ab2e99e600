"""Write a report of runs.

run folders (+ their caches and datasets, where these are there) → one HTML file
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.checks import some
from pipeline.config import ReportConfig
from pipeline.files import write_text
from pipeline.report.answer import answer, counted
from pipeline.report.collect import collect, labels_of
from pipeline.report.curves import curves
from pipeline.report.markup import Markup, shortened
from pipeline.report.page import page
from pipeline.report.runs_table import runs_table
from pipeline.runs.ledger import Entry
from pipeline.runs.ranking import Standing, standings


def write_report(config: ReportConfig) -> Path:
    """Write one HTML file about runs; gives its path. A run that is unfinished or broken is a line in it.

    Raises: RunError when there is no run, or a folder can't be read.
    """
    found = collect(map(Path, config.run))
    labels = labels_of(found)
    groups = sorted(standings(found), key=len, reverse=True)  # of equal ones the higher score comes first
    first = _members(groups[0]) if groups else found
    sections: list[tuple[str, str, Markup | None]] = [
        ("answer", "Answer", answer(groups, found, labels)),
        ("runs", "Runs", runs_table(found, labels)),
        ("curves", "Learning curves", curves(first, labels)),
    ]
    made = [(place, word, content) for place, word, content in sections if content is not None]
    text = page(_title(groups), _summary(found), made)
    out = Path(config.out)
    write_text(out, text)
    print(f"{out}: {len(found):,} runs, {len(text.encode()) / 1e6:.2f} MB")
    return out


def _members(group: Standing) -> list[Entry]:
    return [group.best, *(entry for entry, _ in group.others)]


def _title(groups: Sequence[Standing]) -> str:
    names = dict.fromkeys(str(group.best.facts["dataset"]) for group in groups)
    return f"Report: {some(map(shortened, names), 3)}" if names else "Report of runs"


def _summary(found: Sequence[Entry]) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in counted(found).items())
    return f"{len(found):,} runs: {states}"
