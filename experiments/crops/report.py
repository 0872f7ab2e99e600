"""The ablation's results as JSON, as a table and as a plot."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.plots import plot_curves
from pipeline.files import write_json, write_text
from pipeline.metrics.bootstrap import top1_interval

AGAINST = ("center", "five", "full", "linear")
"""What ten-crop is compared with, on the same test images."""
LABEL = {"same": "(a) same classes", "transfer": "(b) other classes", "digits": "(c) digits"}


class Result(NamedTuple):
    """A cell's outcome."""

    regime: str
    per_class: int
    """Labelled images per class that were asked for; 0: all."""
    images_per_class: int
    """How many these are."""
    head: str
    lr: float
    weight_decay: float
    correct: list[NDArray[np.bool_]]
    """Per seed, which test images are right (N,)."""

    @property
    def top1(self) -> NDArray[np.float64]:
        """Per cent, one per seed."""
        return np.array([100 * seed.mean() for seed in self.correct])


def write_report(out: Path, results: list[Result], settings: dict[str, Any]) -> Path:
    """Write OUT/ablation.json, ablation.md and ablation.png, print the table; gives the JSON's path."""
    text = tables(results)
    print(text)
    write_text(out / "ablation.md", text)
    curves = {
        head: (
            [r.images_per_class for r in cells],
            [r.top1.mean() for r in cells],
            [deviation(r) or 0.0 for r in cells],
        )
        for head in heads(results)
        if (cells := [r for r in results if r.head == head and r.regime == "transfer"])
    }
    if curves:
        plot_curves(
            out / "ablation.png",
            curves,
            xlabel="labelled images per class",
            ylabel="top-1, %",
            title="Heads on classes that the trunk has not seen",
            log_x=True,
        )
    path = out / "ablation.json"
    write_json(path, {"settings": settings, "cells": [as_json(r, results) for r in results]})
    print(f"\n{path}\n{out / 'ablation.md'}" + (f"\n{out / 'ablation.png'}" if curves else ""))
    return path


def tables(results: list[Result]) -> str:
    """Two Markdown tables: top-1 of each head, and ten-crop's differences with their intervals."""
    names = heads(results)
    lines = ["| regime | per class | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for row in rows(results):
        cells = [score(r) for r in row.values()]
        lines.append(f"| {title(row)} | {' | '.join(cells)} |")
    others = [name for name in AGAINST if name in names]
    lines += ["", "| regime | per class | " + " | ".join(f"ten − {n}" for n in others) + " |"]
    lines.append("|---|---|" + "---|" * len(others))
    for row in rows(results):
        lines.append(f"| {title(row)} | {' | '.join(compare(row, name) for name in others)} |")
    return "\n".join(lines) + "\n"


def rows(results: list[Result]) -> list[dict[str, Result]]:
    """The cells of each regime and number of images, by head."""
    keys = dict.fromkeys((r.regime, r.per_class) for r in results)
    return [{r.head: r for r in results if (r.regime, r.per_class) == key} for key in keys]


def heads(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(r.head for r in results))


def title(row: dict[str, Result]) -> str:
    first = next(iter(row.values()))
    return f"{LABEL[first.regime]} | {first.per_class or 'all'}"


def compare(row: dict[str, Result], other: str) -> str:
    """Ten-crop minus another head in percentage points, with the 95 % interval over test images."""
    return str(top1_interval(np.stack(row[other].correct), np.stack(row["ten"].correct)))


def score(result: Result) -> str:
    """Mean ± deviation over the seeds."""
    spread = deviation(result)
    return f"{result.top1.mean():.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def deviation(result: Result) -> float | None:
    """Sample deviation over seeds; one has none."""
    return float(result.top1.std(ddof=1)) if len(result.correct) > 1 else None


def as_json(result: Result, results: list[Result]) -> dict[str, Any]:
    cell = next(row for row in rows(results) if result in row.values())
    return {
        "regime": result.regime,
        "images_per_class": result.images_per_class,
        "head": result.head,
        "lr": result.lr,
        "weight_decay": result.weight_decay,
        "top1": result.top1.tolist(),
        "mean": float(result.top1.mean()),
        "deviation": deviation(result),
        "ten_minus_this": None if result.head == "ten" else compare(cell, result.head),
    }
