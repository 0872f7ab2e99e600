"""Pictures of scores as PNG: matrices and bars."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from pipeline.evaluation.fonts import USUAL, families_for, quietly
from pipeline.files import replacing

COUNTS_UP_TO = 20
"""With more classes than this the numbers in the cells can't be read."""
NAMES_UP_TO = 60
"""With more classes than this their names can't either: the axes then count."""
BARS_UP_TO = 100
"""The same for a single list of names."""
CELLS_UP_TO = 500
"""With more classes than this neighbours share a cell, which would be less than three pixels wide."""


def plot_confusion(path: Path, confusion: Mapping[str, Sequence[int]], classes: Sequence[str]) -> None:
    """Write the confusion matrix as PNG: shares of each label's images, with the counts while they fit.

    Args:
        confusion: label, prediction and count of the cells that are not zero.
    """
    each = -(-len(classes) // CELLS_UP_TO)  # classes that share a cell
    cells = -(-len(classes) // each)
    labels, predictions, found = (np.array(confusion[name]) for name in ("label", "prediction", "count"))
    counts = np.zeros((cells, cells), np.int64)
    np.add.at(counts, (labels // each, predictions // each), found)
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = float(np.clip(3 + 0.45 * len(classes), 4.5, 14))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    extent = (-0.5, cells * each - 0.5, cells * each - 0.5, -0.5)
    style = {"cmap": "Blues", "vmin": 0, "vmax": 100, "interpolation": "nearest"}
    image = axes.imshow(shares, extent=extent, **style)
    figure.colorbar(image, label="% of the label's images", shrink=0.8)
    shared = f", {each} classes to a cell" if each > 1 else ""
    axes.set(xlabel=f"prediction{shared}", ylabel=f"label{shared}")
    if len(classes) <= NAMES_UP_TO:
        names, size = [_short(name) for name in classes], 9 if len(classes) <= COUNTS_UP_TO else 6
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(len(names)), names, fontsize=size, parse_math=False)
    if len(classes) <= COUNTS_UP_TO:
        _write_counts(figure, counts, shares)
    save(figure, path)


def plot_ap(path: Path, by_class: Mapping[str, float | None], mean: float) -> None:
    """Write each class's average precision as PNG: a bar in per cent, or none, and a line at the mean."""
    count = len(by_class)
    height = float(np.clip(1.2 + 0.22 * count, 2.5, 15.5))
    figure = Figure(figsize=(7, height), layout="constrained")
    axes = figure.subplots()
    values = [0.0 if value is None else value for value in by_class.values()]
    if count <= BARS_UP_TO:
        axes.barh(range(count), values, height=0.75, color="tab:blue")
    else:  # one outline instead of thousands of bars
        axes.stairs(values, np.arange(count + 1) - 0.5, orientation="horizontal", fill=True, color="tab:blue")
    axes.axvline(mean, color="black", linestyle="--", linewidth=1)
    axes.set(xlabel=f"average precision, % (mAP {mean:.2f}, dashed)", xlim=(0, 100), ylim=(count - 0.5, -0.5))
    if count <= BARS_UP_TO:
        size = 9 if count <= NAMES_UP_TO else 6
        axes.set_yticks(range(count), [_short(name) for name in by_class], fontsize=size, parse_math=False)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, the same bytes each time. What it says is in fonts that have the letters, where
    such are installed; where not, boxes stand for them, and no warning does.
    """
    with quietly(), replacing(path) as part:
        texts: list[Text] = figure.findobj(Text)  # pyright: ignore[reportAssignmentType]
        if families := families_for("".join(text.get_text() for text in texts)):
            for text in texts:
                text.set_fontfamily([USUAL, *families])
        figure.savefig(part, format="png", dpi=150, metadata={"Software": None})


def _write_counts(figure: Figure, counts: NDArray[np.int64], shares: NDArray[np.floating]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 50 else "black"
            figure.axes[0].text(column, row, f"{count:,}", ha="center", va="center", fontsize=7, color=colour)


def _short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
