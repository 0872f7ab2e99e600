"""The ablation's results as JSON and as tables."""

from pathlib import Path
from typing import Any

import numpy as np

from experiments.crops.plots import plot_curves, plot_gains
from experiments.crops.results import AGAINST, Result, by_images, field_of, ten_minus
from experiments.tables import deviation, markdown, spread
from pipeline.files import write_json, write_text
from pipeline.runs.stack import Setting


def write_report(out: Path, results: list[Result], settings: dict[str, Any]) -> Path:
    """Write OUT/ablation.json, ablation.md and pictures, print the tables; gives the JSON's path."""
    text = tables(results)
    print(text)
    write_text(out / "ablation.md", text)
    write_json(out / "ablation.json", {"settings": settings, "variants": as_json(results)})
    made = [out / "ablation.json", out / "ablation.md"]
    if transfer := [r for r in results if r.variant.maps.regime == "transfer"]:
        made.append(plot_curves(out / "ablation.png", transfer))
    seen = [line for line in by_images(results).values() if field_of(line)]
    if len({line["ten"].variant.maps for line in seen}) > 1:
        made.append(plot_gains(out / "ablation-field.png", seen))
    print(*made, sep="\n")
    return made[0]


def tables(results: list[Result]) -> str:
    """Markdown tables: top-1 of each head, ten-crop's differences with their intervals, and how much of the
    picture a cell sees where trunks come from elsewhere."""
    heads = list(dict.fromkeys(r.variant.head for r in results))
    others = [name for name in AGAINST if name in heads]
    scores, differences = [], []
    for line in by_images(results).values():
        variant = next(iter(line.values())).variant
        title = [variant.title, str(variant.per_class or "all")]
        scores.append([*title, *(spread(line[name].top1) if name in line else "" for name in heads)])
        differences.append([*title, *(str(ten_minus(line, name)) for name in others)])
    names = ["regime", "per class"]
    minus = [f"ten − {name}" for name in others]
    found = [markdown([*names, *heads], scores), markdown([*names, *minus], differences)]
    seen = {r.variant.title: f for r in results if (f := r.variant.maps.field)}
    if seen:
        shares = [[title, f"{f.reach:.2f}", f"{f.field:.2f}"] for title, f in seen.items()]
        found.append(markdown(["regime", "reach of a cell", "field of a cell"], shares))
    return "\n".join(found)


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """A line per variant."""
    return [
        {
            "regime": r.variant.maps.regime,
            "trunk": r.variant.maps.trunk or None,
            "field": f._asdict() if (f := r.variant.maps.field) else None,
            "images_per_class": r.variant.images_per_class,
            "head": head,
            **(r.setting._asdict() if r.setting else dict.fromkeys(Setting._fields)),
            "top1": r.top1,
            "mean": float(np.mean(r.top1)),
            "deviation": deviation(r.top1),
            "ten_minus_this": None if head == "ten" else str(ten_minus(line, head)),
        }
        for line in by_images(results).values()
        for head, r in line.items()
    ]
