"""The ablation's results as JSON, as tables and as a plot."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from experiments.tables import deviation, markdown, spread
from pipeline.evaluation.plots import save
from pipeline.files import write_json, write_text
from pipeline.metrics.bootstrap import top1_interval
from pipeline.runs.stack import Setting

AGAINST = ("center", "five", "full", "linear", "logistic")
"""The heads that ten-crop is compared with, on the same test images."""
LABEL = {"same": "(a) same classes", "transfer": "(b) other classes", "digits": "(c) digits"}


class Variant(NamedTuple):
    """A head on the maps of some images."""

    regime: str
    per_class: int
    """Labelled images per class that were asked for; 0: all."""
    head: str
    images: int
    """Labelled images, validation part included."""
    images_per_class: int
    cache: Path
    classes: tuple[str, ...]


class Result(NamedTuple):
    """A variant's outcome."""

    variant: Variant
    setting: Setting | None
    """The one that validation chose; None for logistic, which has its own."""
    correct: list[NDArray[np.bool_]]
    """Which test images are right, (N,) for each seed."""

    @property
    def top1(self) -> list[float]:
        """Per cent, one per seed."""
        return [100 * float(seed.mean()) for seed in self.correct]


def write_report(out: Path, results: list[Result], settings: dict[str, Any]) -> Path:
    """Write OUT/ablation.json, ablation.md and ablation.png, print the tables; gives the JSON's path."""
    text = tables(results)
    print(text)
    write_text(out / "ablation.md", text)
    write_json(out / "ablation.json", {"settings": settings, "variants": as_json(results)})
    made = [out / "ablation.json", out / "ablation.md"]
    if transfer := [r for r in results if r.variant.regime == "transfer"]:
        plot(out / "ablation.png", transfer)
        made.append(out / "ablation.png")
    print(*made, sep="\n")
    return made[0]


def tables(results: list[Result]) -> str:
    """Two Markdown tables: top-1 of each head, and ten-crop's differences with their intervals."""
    heads = list(dict.fromkeys(r.variant.head for r in results))
    others = [name for name in AGAINST if name in heads]
    scores, differences = [], []
    for (regime, per_class), line in by_images(results).items():
        title = [LABEL[regime], str(per_class or "all")]
        scores.append([*title, *(spread(r.top1) for r in line.values())])
        differences.append([*title, *(ten_minus(line, name) for name in others)])
    names = ["regime", "per class"]
    minus = [f"ten − {name}" for name in others]
    return markdown([*names, *heads], scores) + "\n" + markdown([*names, *minus], differences)


def by_images(results: list[Result]) -> dict[tuple[str, int], dict[str, Result]]:
    """The results of each regime and number of images, by head."""
    lines: dict[tuple[str, int], dict[str, Result]] = {}
    for r in results:
        lines.setdefault((r.variant.regime, r.variant.per_class), {})[r.variant.head] = r
    return lines


def ten_minus(line: dict[str, Result], other: str) -> str:
    """Ten-crop minus another head in percentage points, with the 95 % interval over test images."""
    return str(top1_interval(np.stack(line[other].correct), np.stack(line["ten"].correct)))


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """A line per variant."""
    return [
        {
            "regime": r.variant.regime,
            "images_per_class": r.variant.images_per_class,
            "head": head,
            **(r.setting._asdict() if r.setting else dict.fromkeys(Setting._fields)),
            "top1": r.top1,
            "mean": float(np.mean(r.top1)),
            "deviation": deviation(r.top1),
            "ten_minus_this": None if head == "ten" else ten_minus(line, head),
        }
        for line in by_images(results).values()
        for head, r in line.items()
    ]


def plot(path: Path, results: list[Result]) -> None:
    """Write each head's top-1 against the number of images as PNG, with bars of one deviation."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    style = {"marker": "o", "markersize": 4, "linewidth": 1.5, "capsize": 3}
    for head in dict.fromkeys(r.variant.head for r in results):
        mine = [r for r in results if r.variant.head == head]
        images, means = [r.variant.images_per_class for r in mine], [np.mean(r.top1) for r in mine]
        axes.errorbar(images, means, [deviation(r.top1) or 0.0 for r in mine], label=head, **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set(xlabel="labelled images per class", ylabel="top-1, %")
    axes.set_title("Heads on classes that the trunk has not seen")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    save(figure, path)
