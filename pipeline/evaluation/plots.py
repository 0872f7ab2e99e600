"""Pictures as PNG: how they are saved, and bars of average precision."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib import color_sequences
from matplotlib.figure import Figure
from matplotlib.text import Text

from pipeline.evaluation.class_names import drawn_names
from pipeline.evaluation.fonts import USUAL, fonts_for, quietly
from pipeline.files import replacing

COLOURS = tuple(color_sequences["petroff10"])
"""Ten colours that stay apart for the colour-blind too."""
NAMES_UP_TO = 60
"""With more classes than this their names can't be read in one picture: the worst are shown."""
SHOWN = 40
"""How many of them."""


def plot_ap(path: Path, by_class: Mapping[str, float | None], mean: float) -> None:
    """Write average precision in per cent as PNG: a bar for each class, or none, and a line at the mean. Of
    many classes the lowest are shown, lowest first, and above them how all are spread."""
    classes = list(by_class)
    values = np.array([np.nan if value is None else value for value in by_class.values()])
    places, many = np.arange(len(classes)), len(classes) > NAMES_UP_TO
    if many:
        places = np.argsort(values, kind="stable")[: min(SHOWN, int(np.isfinite(values).sum()))]
    height = float(np.clip(1.2 + 0.22 * len(places), 2.5, 15.5))
    figure = Figure(figsize=(7, height + 2.5 * many), layout="constrained")
    heights = [2.5, height] if many else [1]
    *above, axes = figure.subplots(len(heights), 1, height_ratios=heights, sharex=True, squeeze=False)[:, 0]
    for spread in above:
        spread.hist(
            values[np.isfinite(values)], bins=np.arange(0, 101, 5), color=COLOURS[0], edgecolor="white"
        )
        spread.axvline(mean, color="black", linestyle="--", linewidth=1)
        spread.set(ylabel="classes", title=f"{len(classes):,} classes; below, the {len(places)} lowest")
    axes.barh(range(len(places)), np.nan_to_num(values[places]), height=0.75, color=COLOURS[0])
    axes.axvline(mean, color="black", linestyle="--", linewidth=1)
    axes.set(
        xlabel=f"average precision, % (mAP {mean:.2f}, dashed)", xlim=(0, 100), ylim=(len(places) - 0.5, -0.5)
    )
    names = drawn_names(path, classes, places.tolist())
    axes.set_yticks(range(len(places)), list(names.values()), fontsize=9, parse_math=False)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, the same bytes each time, in fonts that have its letters. A letter that no
    installed font has is escaped."""
    with quietly(), replacing(path) as part:
        texts: list[Text] = figure.findobj(Text)  # pyright: ignore[reportAssignmentType]
        families, missing = fonts_for("".join(text.get_text() for text in texts))
        for text in texts if families or missing else ():
            text.set_fontfamily([USUAL, *families])
            text.set_text("".join(ascii(c)[1:-1] if c in missing else c for c in text.get_text()))
        figure.savefig(part, format="png", dpi=150, metadata={"Software": None})
