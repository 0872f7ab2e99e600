"""The images that a run got wrong with the most confidence, and those that it only just got right."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.evaluation.scored import Predictions
from pipeline.progress import over
from pipeline.report.examples import Example, examples
from pipeline.report.markup import Markup, element, name
from pipeline.report.neighbours import Neighbour, nearest
from pipeline.report.pictures import SMALL, Pictures, missing
from pipeline.runs.thresholds import UNCHOSEN, read_thresholds

NAMES = 6
"""Labels of an image that are listed."""


def gallery(
    folder: Path, kept: Predictions, count: int, pictures: Pictures | None, problem: str
) -> Markup | None:
    """Cards of images; without the images, and why, where these are gone. None where none are asked for."""
    if not count:
        return None
    found = examples(kept, _thresholds(folder, kept), count)
    beside, words = _neighbours(pictures, kept, found.mistakes)
    if words:
        problem = f"{problem} {words}".strip()
    chosen = over([*found.mistakes, *found.hits], "reading images", "images")
    cards = [_card(example, pictures, beside.get(example.row, [])) for example in chosen]
    wrong = len(found.mistakes)
    return element(
        "section",
        element("h2", "Images", id="images"),
        element("p", problem, class_="muted") if problem else None,
        element("h3", "Most confident mistakes" if wrong else "No mistakes"),
        element("ul", cards[:wrong], class_="gallery") if wrong else None,
        element("h3", "Least confident hits") if cards[wrong:] else None,
        element("ul", cards[wrong:], class_="gallery") if cards[wrong:] else None,
    )


def open_pictures(folder: Path) -> tuple[Pictures | None, str]:
    """The images of a run, or None and why they can't be shown."""
    try:
        return Pictures(folder), ""
    except (UserError, OSError) as error:
        return None, f"The images can't be shown: {error}."


def _thresholds(folder: Path, kept: Predictions) -> np.ndarray:
    """From which probability each class counts as present."""
    try:
        found = read_thresholds(folder, len(kept.classes)) if kept.multi_label else np.array(UNCHOSEN)
    except UserError:
        return np.array(UNCHOSEN)
    return np.where(np.isnan(found), UNCHOSEN, found)


def _neighbours(
    pictures: Pictures | None, kept: Predictions, mistakes: Sequence[Example]
) -> tuple[dict[int, list[Neighbour]], str]:
    """The training images nearest to each mistake, by its row in the predictions; and a remark."""
    if pictures is None or not mistakes:
        return {}, ""
    if pictures.training is None:
        return {}, "The training cache is gone, so no neighbours are shown."
    try:
        rows = [pictures.row(one.path, kept.contents[one.row].tobytes()) for one in mistakes]
        lists, among = nearest(pictures.training, pictures.test, rows)
    except (UserError, OSError) as error:
        return {}, f"No neighbours are shown: {error}."
    left = f", looked for among {among:,} of {len(pictures.training):,}"
    words = (
        "Open an image for the nearest images of the training split, by the cosine of their averaged maps"
        f"{left if among < len(pictures.training) else ''}."
    )
    return {one.row: own for one, own in zip(mistakes, lists, strict=True)}, words


def _card(example: Example, pictures: Pictures | None, beside: Sequence[Neighbour]) -> Markup:
    alt = f"test image {example.path}"
    picture = pictures.picture(example.path, alt) if pictures else missing("no image")
    before, meant, behind = example.words
    details = [
        element("summary", "Details"),
        _top(example),
    ]
    if beside and pictures:
        details.append(element("ol", [_beside(one, pictures) for one in beside], class_="neighbours"))
    return element(
        "li",
        element("button", picture, type="button", class_="open", aria_label=f"Enlarge {alt}"),
        element(
            "div",
            element("p", before, element("b", name(meant, 60)), behind),
            element("p", "label: ", _names(example.labels), class_="muted"),
            element("p", name(example.path, 80), class_="path"),
            element("details", details),
        ),
        class_="card",
    )


def _names(labels: Sequence[str]) -> list[Markup | str]:
    found: list[Markup | str] = []
    for label in labels[:NAMES]:
        found += [", " if found else "", name(label, 60)]
    more = len(labels) - NAMES
    return [*found, f" and {more} more"] if more > 0 else found or ["none"]


def _top(example: Example) -> Markup:
    lines = [
        element(
            "li",
            name(label, 60),
            f" {share:.1f} % ",
            element("span", "✓ label", class_="good") if right else None,
        )
        for label, share, right in example.top
    ]
    return element("ol", lines, class_="top")


def _beside(one: Neighbour, pictures: Pictures) -> Markup:
    return element(
        "li",
        pictures.picture(one.path, f"training image {one.path}", SMALL),
        _names(one.labels),
        element("span", f" {one.cosine:.2f}", class_="muted"),
        element("b", " the same file", class_="bad") if one.same_file else None,
    )
