"""The answer first: which head is best, how good it is, and whether it can be told apart from the next."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pipeline.metrics.bootstrap import Interval
from pipeline.report.markup import Markup, element, name
from pipeline.runs.ledger import Entry
from pipeline.runs.ranking import Standing
from pipeline.runs.table import number

OTHERS = 6
"""Questions besides the first that get an answer of one line."""


def answer(
    groups: Sequence[Standing],
    found: Sequence[Entry],
    labels: Mapping[Path, str],
    test: tuple[Interval, int] | None,
) -> Markup:
    """The first group's best run in figures and words, and a line about the best of each other group.

    test: the best run's score on test images with its interval, and their number, where it was evaluated.
    """
    if not groups:
        states = ", ".join(f"{count} {state}" for state, count in counted(found).items())
        return element(
            "section",
            element("h2", "No answer yet", id="answer"),
            element("p", f"No run is finished and has a validation score: {states}.", class_="lead"),
            class_="answer",
        )
    first, *others = groups
    return element(
        "section",
        element("p", "Best by validation", class_="eyebrow"),
        element("h2", name(str(labels[first.best.folder])), id="answer"),
        element("p", _made(first.best), class_="muted"),
        element("div", _tiles(first, found, test), class_="tiles"),
        element("p", element("strong", _verdict(first)), " ", _reason(first, labels), class_="lead"),
        element("p", _test_words(first, test), class_="muted"),
        _elsewhere(others, labels),
        class_="answer",
        aria_labelledby="answer",
    )


def counted(found: Sequence[Entry]) -> dict[str, int]:
    """How many runs are in each state."""
    states = [entry.state for entry in found]
    return {state: states.count(state) for state in sorted(set(states))}


def _made(best: Entry) -> list[Markup | str]:
    facts = best.facts
    parts = [f"head {facts['head']}", f"crops {facts['crops']}" if facts.get("crops") else ""]
    parts += [f"trunk {facts['trunk']}", f"dataset {facts['dataset']}"]
    shown = [name(part) for part in parts if part]
    return [part for item in shown for part in (item, " · ")][:-1]


def _tiles(group: Standing, found: Sequence[Entry], test: tuple[Interval, int] | None) -> list[Markup]:
    facts, metric = group.best.facts, group.metric
    tiles = [
        _tile(
            f"Validation {metric}",
            f"{number(facts['score'])} %",
            _ends(facts["low"], facts["high"]),
            f"{facts['images']:,.0f} images" if facts["images"] else "",
        )
    ]
    if test:
        (score, low, high), images = test
        tiles.append(_tile(f"Test {metric}", f"{score:.2f} %", _ends(low, high), f"{images:,} images"))
    if group.others:
        near = len(group.near)
        tiles.append(_tile("Can't be told apart", f"{near} of {len(group.others)}", "on the same images"))
    finished = counted(found).get("finished", 0)
    states = ", ".join(f"{n} {state}" for state, n in counted(found).items() if state != "finished")
    tiles.append(_tile("Finished runs", f"{finished} of {len(found)}", states or "all of them"))
    return tiles


def _tile(title: str, value: str, *notes: str) -> Markup:
    below = [element("span", note) for note in notes if note]
    return element("div", element("span", title), element("b", value), below, class_="tile")


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"95 %: {low:.2f} to {high:.2f}"


def _verdict(group: Standing) -> str:
    if not group.others:
        return "It is the only run on these images."
    minus = next((minus for _, minus in group.others if minus is not None), None)
    if minus is None:
        return "Whether it is better than the next is not known."
    return "It can't be told apart from the next." if group.near else "It is better than all others."


def _reason(group: Standing, labels: Mapping[Path, str]) -> list[Markup | str]:
    """The run that comes closest, and by how much it is behind."""
    known = [(entry, minus) for entry, minus in group.others if minus is not None]
    if not known:
        return []
    entry, minus = known[0]
    return [
        "The next, ",
        name(str(labels[entry.folder])),
        f", differs by {in_points(minus)} points on the same {group.best.facts['images'] or 0:,.0f} images "
        "(95 % interval, paired).",
    ]


def in_points(minus: Interval) -> str:
    """A difference with its interval, with true minus signs: −0.36 [−2.15, +1.43]."""
    return str(minus).replace("-", "−")


def _test_words(group: Standing, test: tuple[Interval, int] | None) -> str:
    if test:
        chosen = "It was chosen by validation; the test score had no part in that, and is the one to quote."
        low = group.best.facts["low"]
        if low is not None and test[0].high < low:
            chosen += (
                " It is below validation by more than chance: these images differ from those it was chosen "
                "on, or the choice among many runs flattered it."
            )
        return chosen
    others = sum(entry.facts["test"] is not None for entry, _ in group.others)
    more = f"; {others} of the others were" if others else ""
    return (
        f"It was not scored on the test split{more}. This is its validation score, by which it was chosen: "
        "it is a little too good, the more so the more runs there are. evaluate.py scores it on test images."
    )


def _elsewhere(groups: Sequence[Standing], labels: Mapping[Path, str]) -> Markup | None:
    if not groups:
        return None
    lines = [
        element(
            "li",
            name(str(group.best.facts["dataset"])),
            ": ",
            name(str(labels[group.best.folder])),
            f", {group.metric} {number(group.best.facts['score'])} %, the best of {len(group)} "
            f"({len(group.near)} not told apart from it)",
        )
        for group in groups[:OTHERS]
    ]
    more = len(groups) - OTHERS
    lines += [element("li", f"and {more} more groups")] if more > 0 else []
    title = "Validated on other images, and so no rivals:"
    return element("div", element("p", title), element("ul", lines), class_="note")
