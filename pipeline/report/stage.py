"""Write a report of runs.

run folders (+ their caches and datasets, where these are there) → one HTML file
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.config import ReportConfig
from pipeline.errors import RunError
from pipeline.evaluation.scored import Predictions
from pipeline.files import write_text
from pipeline.report.answer import answer, counted
from pipeline.report.attention import attention
from pipeline.report.calibration import calibration
from pipeline.report.classes import confused, per_class
from pipeline.report.collect import collect, labels_of
from pipeline.report.copies import copies
from pipeline.report.curves import curves
from pipeline.report.differences import differences, score, test_interval
from pipeline.report.gallery import gallery, open_pictures
from pipeline.report.kept import has_kept, read_kept
from pipeline.report.label_suspects import label_suspects
from pipeline.report.markup import Markup, element, name, shortened
from pipeline.report.page import page
from pipeline.report.provenance import provenance
from pipeline.report.runs_table import runs_table
from pipeline.runs.ledger import Entry
from pipeline.runs.ranking import Standing, standings
from pipeline.wording import some


def write_report(config: ReportConfig) -> Path:
    """Write one HTML file about runs; gives its path. A run that is unfinished or broken is a line in it.

    Raises: RunError when there is no run, or a folder can't be read.
    """
    found = collect(map(Path, config.run))
    labels = labels_of(found)
    groups = sorted(standings(found), key=len, reverse=True)  # of equal ones the higher score comes first
    parts = _sections(groups, found, labels, config.images)
    made = [(place, word, content) for place, word, content in parts if content is not None]
    text = page(_title(groups), _summary(found), made)
    out = Path(config.out)
    write_text(out, text)
    print(f"{out}: {len(found):,} runs, {len(text.encode()) / 1e6:.2f} MB")
    return out


def _sections(
    groups: Sequence[Standing], found: Sequence[Entry], labels: Mapping[Path, str], count: int
) -> Iterator[tuple[str, str, Markup | None]]:
    """(id, word for the menu, content) of each section, in their order; None where there is nothing to show.

    From the differences on they are about one run: the best by validation that was evaluated. Labels are
    judged by one with --folds, and duplicates are those of the run's cache.
    """
    first = _members(groups[0]) if groups else found
    shown, kept, problems = _evaluated(first)
    is_best = kept is not None and groups and shown.folder == groups[0].best.folder
    test = (test_interval(kept), len(kept.labels)) if kept is not None and is_best else None
    yield "answer", "Answer", answer(groups, found, labels, test)
    yield "runs", "Runs", runs_table(found, labels, {group.best.folder for group in groups})
    yield "curves", "Learning curves", curves(first, labels)
    if not groups:
        return
    yield "differences", "Differences", differences(groups[0], shown, kept, labels)
    yield "test", "Test images", _looked_at(shown, kept, problems, groups[0], labels)
    pictures, problem = open_pictures(shown.folder) if count else (None, "")
    made_with = pictures and pictures.test.notes.get("made_with")
    if kept is not None:
        yield "classes", "Classes", per_class(kept)
        yield "confusion", "Confusion", confused(kept)
        yield "calibration", "Calibration", calibration(kept)
        yield "images", "Images", gallery(shown.folder, kept, count, pictures, problem)
        yield "attention", "Attention", attention(shown.folder, kept, pictures)
    yield "suspects", "Label suspects", label_suspects(groups, labels, count, pictures)
    yield "duplicates", "Duplicates", copies(shown.folder, count // 2, pictures)
    yield "provenance", "Provenance", provenance(groups[0].best, made_with)


def _evaluated(first: Sequence[Entry]) -> tuple[Entry, Predictions | None, list[str]]:
    """The run with the highest validation score that evaluate.py scored, what it kept, and why others were
    passed over; the best run if there is none."""
    problems = []
    for entry in filter(has_kept, first):
        try:
            return entry, read_kept(entry.folder), problems
        except RunError as error:
            problems.append(str(error))
    return first[0], None, problems


def _looked_at(
    shown: Entry,
    kept: Predictions | None,
    problems: Sequence[str],
    group: Standing,
    labels: Mapping[Path, str],
) -> Markup:
    """Which run's test images the following sections are about, and why it is not the best one."""
    if kept is None:
        words: list[Markup | str] = [
            "None of these runs was scored on the test split, so there is nothing to show of test images: "
            "evaluate.py scores one, and this report then shows what it got wrong."
        ]
    else:
        words = ["All that follows is about ", name(str(labels[shown.folder])), f" on {len(kept.labels):,} "]
        words += [f"test images: {group.metric} {score(kept):.2f} %."]
        if shown.folder != group.best.folder:
            words += [" Of the runs that were evaluated it has the highest validation score."]
    lines = [element("p", problem, class_="problem") for problem in problems]
    return element("section", element("h2", "Test images", id="test"), element("p", words), lines)


def _members(group: Standing) -> list[Entry]:
    return [group.best, *(entry for entry, _ in group.others)]


def _title(groups: Sequence[Standing]) -> str:
    names = dict.fromkeys(str(group.best.facts["dataset"]) for group in groups)
    return f"Report: {some(map(shortened, names), 3)}" if names else "Report of runs"


def _summary(found: Sequence[Entry]) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in counted(found).items())
    return f"{len(found):,} runs: {states}"
