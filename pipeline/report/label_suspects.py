"""Training images whose label is probably wrong, by heads of folds that didn't learn from them."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import EvaluateConfig
from pipeline.errors import UserError
from pipeline.report.collect import own
from pipeline.report.markup import Markup, element, name
from pipeline.report.pictures import Pictures, missing
from pipeline.runs.layout import CONFIG, read_config
from pipeline.runs.ledger import Entry
from pipeline.runs.out_of_fold import OUT_OF_FOLD
from pipeline.runs.ranking import Standing, images_of

if TYPE_CHECKING:
    from pipeline.evaluation.label_issues import Suspects

NAMES = 6
"""Labels of an image that are listed."""
LABELS = slice(2)
"""The part of `images_of` that says which images there are, and their labels."""


def label_suspects(
    groups: Sequence[Standing], labels: Mapping[Path, str], count: int, pictures: Pictures | None
) -> Markup:
    """The most doubtful labels by the best run with --folds on the first group's images; what to do where
    there is none. `count`: how many images are shown at most."""
    judge = next(_by_folds(groups), None)
    if judge is None:
        content = _advice(groups[0].best)
    else:
        content = _judged(judge, str(labels[judge.folder]), count, pictures)
    return element("section", element("h2", "Label suspects", id="suspects"), content)


def _by_folds(groups: Sequence[Standing]) -> Iterator[Entry]:
    """The runs on the first group's images that scored each of them without learning from it."""
    wanted = images_of(groups[0].best)[LABELS]
    for group in groups:
        if images_of(group.best)[LABELS] == wanted:
            for entry in (group.best, *(entry for entry, _ in group.others)):
                if (entry.folder / OUT_OF_FOLD).exists():
                    yield entry


def _advice(best: Entry) -> list[Markup]:
    """Why no label is judged, and what makes it possible."""
    run = shlex.quote(str(best.folder))
    identity = read_config(best.folder, "train").get("cache_identity")
    if isinstance(identity, dict) and identity.get("val_rows"):
        words = "No label is judged: this dataset has validation images of its own, and --folds takes none. "
        words += "Labels of test images can be judged, by a head that hasn't seen them:"
        command = f"evaluate.py --run {run} --label-issues --issues-split test"
    else:
        words = "No label is judged: a head that learned from an image says of its label what it was told. "
        words += "With --folds each image is scored by heads that didn't learn from it; then report again:"
        command = f"train_head.py --config {run}/{CONFIG} --folds 5 --out {run}-folds"
    return [element("p", words), element("p", element("code", command))]


def _judged(judge: Entry, label: str, count: int, pictures: Pictures | None) -> list[Markup]:
    from pipeline.evaluation.label_issues import suspects  # takes a second to import

    folder = judge.folder
    try:
        own(folder, OUT_OF_FOLD)
        found = suspects(folder, EvaluateConfig(run=(str(folder),)))
    except (UserError, OSError) as error:
        return [element("p", name(str(error), 400), class_="problem")]
    issues = found.order[: found.quality.is_issue.sum()].tolist()
    words = f": {len(issues):,} of {len(found.labels):,} training images have a label that is probably wrong."
    command = element("code", f"evaluate.py --run {shlex.quote(str(folder))} --label-issues")
    cards = [_card(found, row, pictures) for row in issues[:count]]
    parts = [
        element("p", "By ", name(label), words),
        element("p", "A table of all images, to correct and to give back: ", command, class_="muted"),
    ]
    return [*parts, element("ul", cards, class_="gallery")] if cards else parts


def _card(found: "Suspects", row: int, pictures: Pictures | None) -> Markup:
    path, alt = found.paths[row], f"training image {found.paths[row]}"
    picture = pictures.picture(path, alt) if pictures else missing("no image")
    shares = found.probabilities[row]
    lines = [
        element("p", word, element("b", name(found.classes[k], 60)), f", {100 * shares[k]:.1f} %")
        for word, k in _turned(found, row)
    ]
    return element(
        "li",
        element("button", picture, type="button", class_="open", aria_label=f"Enlarge {alt}"),
        element("div", lines, element("p", name(path, 80), class_="path")),
        class_="card",
    )


def _turned(found: "Suspects", row: int) -> list[tuple[str, int]]:
    """What stands in the label and what is suggested, as words and classes."""
    label, suggested = found.labels[row], found.quality.suggested[row]
    if np.ndim(label) == 0:
        return [("label: ", int(label)), ("rather: ", int(suggested))]
    turned = np.flatnonzero(label != suggested).tolist()[:NAMES]
    return [("rather without " if label[k] == 1 else "rather with ", k) for k in turned]
