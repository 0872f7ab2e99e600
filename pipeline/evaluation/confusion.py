"""The confusion matrix as a picture; of many classes also the pairs that are confused most often."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.evaluation.class_names import LEGEND, drawn_names, write_legend
from pipeline.evaluation.plots import COLOURS, NAMES_UP_TO, SHOWN, save

COUNTS_UP_TO = 20
"""With more classes than this the numbers in the cells can't be read."""
CELLS_UP_TO = 500
"""With more classes than this neighbours share a cell, which would be less than three pixels wide."""
TICKS = (0, 1, 5, 10, 25, 50, 100)
SHADES, SPREAD = colormaps["Blues"], PowerNorm(0.5, 0, 100)
"""Colours of shares in per cent, spread so that the few per cent of a mistake can be seen."""


def plot_confusion(path: Path, confusion: Mapping[str, Sequence[int]], classes: Sequence[str]) -> None:
    """Write the confusion matrix as PNG: shares of each label's images, with the counts while they fit. Of
    many classes the axes count, classes.csv has their names, and the worst pairs stand beside the matrix.

    Args:
        confusion: label, prediction and count of the cells that are not zero.
    """
    labels, predictions, counts = (np.array(confusion[name]) for name in ("label", "prediction", "count"))
    each = -(-len(classes) // CELLS_UP_TO)  # classes that share a cell
    cells = -(-len(classes) // each)
    matrix = np.zeros((cells, cells), np.int64)
    np.add.at(matrix, (labels // each, predictions // each), counts)
    if len(classes) <= NAMES_UP_TO:
        side = float(np.clip(3 + 0.45 * len(classes), 4.5, 14))
        figure = Figure(figsize=(side + 1, side), layout="constrained")
        axes = figure.subplots()
        _draw_matrix(figure, axes, matrix, each)
        names = list(drawn_names(path, classes).values())
        style = {"fontsize": 9 if len(classes) <= COUNTS_UP_TO else 6, "parse_math": False}
        axes.set_xticks(range(len(names)), names, rotation=90, **style)
        axes.set_yticks(range(len(names)), names, **style)
        axes.set(xlabel="prediction", ylabel="label")
    else:
        figure = Figure(figsize=(15, 9), layout="constrained")
        axes, beside = figure.subplots(1, 2, width_ratios=[10, 2.5])
        _draw_matrix(figure, axes, matrix, each)
        write_legend(path, classes)
        shared = f"; {each} classes to a cell" if each > 1 else ""
        axes.set(xlabel=f"prediction, by number ({LEGEND}){shared}", ylabel="label, by number")
        wrong = np.flatnonzero(labels != predictions)
        worst = wrong[np.argsort(-counts[wrong], kind="stable")][:SHOWN]
        names = drawn_names(path, classes, np.union1d(labels[worst], predictions[worst]).tolist())
        given, predicted = ([names[k] for k in side[worst].tolist()] for side in (labels, predictions))
        _draw_pairs(beside, given, predicted, counts[worst])
    save(figure, path)


def _draw_matrix(figure: Figure, axes: Axes, counts: NDArray[np.int64], each: int) -> None:
    """Cells of `each` classes a side, of which the axes tell the numbers."""
    shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    end = len(counts) * each - 0.5
    style = {"cmap": SHADES, "norm": SPREAD, "interpolation": "nearest"}
    image = axes.imshow(shares, extent=(-0.5, end, end, -0.5), **style)
    figure.colorbar(image, ax=axes, label="% of the label's images", shrink=0.8, ticks=TICKS, format="%d")
    if len(counts) <= COUNTS_UP_TO:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if SPREAD(shares[row, column]) > 0.7 else "black"
            if count:
                style = {"ha": "center", "va": "center", "fontsize": 7, "color": colour}
                axes.text(column, row, f"{count:,}", **style)


def _draw_pairs(
    axes: Axes, labels: Sequence[str], predictions: Sequence[str], counts: NDArray[np.int64]
) -> None:
    """A bar for each pair of classes, with the label on its left and the prediction on its right. (In one
    text an arrow between words from right to left would point the wrong way.)"""
    axes.barh(range(len(counts)), counts, height=0.75, color=COLOURS[0])
    limits = (SHOWN - 0.5, -0.5)
    axes.set(ylim=limits, xlim=(0, counts.max(initial=1) * 1.25), xlabel="images", ylabel="label")
    right = axes.twinx()
    right.set(ylim=limits, ylabel="prediction")
    for side, names in ((axes, labels), (right, predictions)):
        side.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    for row, count in enumerate(counts.tolist()):
        axes.text(count, row, f" {count:,}", va="center", fontsize=7)
    axes.set_title("the most frequent mistakes" if len(counts) else "no mistakes", fontsize=10)
