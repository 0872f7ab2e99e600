"""The ablation's pictures: learning curves, and ten-crop's gains beside what a cell sees of the picture."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from experiments.crops.results import AGAINST, Line, Result, field_of, ten_minus
from experiments.tables import deviation
from pipeline.evaluation.plots import save

STYLE = {"marker": "o", "markersize": 4, "linewidth": 1.5, "capsize": 3}


def plot_curves(path: Path, results: Sequence[Result]) -> Path:
    """Write each head's top-1 against the number of images as PNG, with bars of one deviation."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for head in dict.fromkeys(r.variant.head for r in results):
        mine = [r for r in results if r.variant.head == head]
        images, means = [r.variant.images_per_class for r in mine], [np.mean(r.top1) for r in mine]
        axes.errorbar(images, means, [deviation(r.top1) or 0.0 for r in mine], label=head, **STYLE)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set(xlabel="labelled images per class", ylabel="top-1, %")
    axes.set_title("Heads on classes that the trunk has not seen")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save(figure, path)
    return path


def plot_gains(path: Path, lines: Sequence[Line]) -> Path:
    """Write ten-crop's differences against the field of a cell as PNG, with 95 % intervals over test images;
    a panel for each number of images."""
    numbers = sorted({line["ten"].variant.images_per_class for line in lines})
    figure = Figure(figsize=(1.5 + 3.6 * len(numbers), 4.5), layout="constrained")
    panels = figure.subplots(1, len(numbers), sharey=True, squeeze=False)[0]
    for axes, number in zip(panels, numbers, strict=True):
        mine = [line for line in lines if line["ten"].variant.images_per_class == number]
        for head in (name for name in AGAINST if name in mine[0] and name != "linear"):
            points = sorted((f.field, *ten_minus(line, head)) for line in mine if (f := field_of(line)))
            fields, gains, low, high = np.transpose(points)
            axes.errorbar(fields, gains, (gains - low, high - gains), label=f"ten − {head}", **STYLE)
        axes.axhline(0, color="black", linewidth=0.8)
        axes.set(xlabel="field of a cell / side of the image", title=f"{number:,} images per class")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("gain in top-1, percentage points")
    panels[0].legend(frameon=False)
    save(figure, path)
    return path
