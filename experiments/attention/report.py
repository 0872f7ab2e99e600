"""The comparison of heads on images with several labels, as JSON and as a table."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.tables import markdown, spread
from pipeline.files import write_json, write_text
from pipeline.metrics.bootstrap import mean_ap_interval
from pipeline.runs.stack import Setting

COLUMNS = {
    "map": "mAP %",
    "cf1": "CF1 %",
    "of1": "OF1 %",
    "hits": "regions on a predicted object %",
    "chance": "random windows %",
}
"""mAP is not interpolated, F1 at a probability of 0.5."""


class Variant(NamedTuple):
    """A head with something changed: a line of the table."""

    part: str
    name: str
    head: str
    crops: str
    changes: dict[str, Any]


class Result(NamedTuple):
    """A variant's outcome on N test images under S seeds."""

    variant: Variant
    setting: Setting
    logits: NDArray[np.float32]  # (S, N, K)
    labels: NDArray[np.integer]  # (N, K)
    figures: dict[str, list[float]]
    """`COLUMNS` of each seed; hits and chance only where a head has regions and boxes are known."""


def write_report(out: Path, results: list[Result], base: Result, settings: dict[str, Any]) -> Path:
    """Write OUT/attention.json and attention.md, print the table; gives the JSON's path.

    `base` is compared with every other result on the same images: mAP minus the base's, with the 95 %
    interval over test images.
    """
    lines, rows = [], []
    for r in results:
        minus = None if r is base else mean_ap_interval(base.logits, r.logits, base.labels)
        cells = [spread(r.figures[name]) if name in r.figures else "" for name in COLUMNS]
        rows.append([r.variant.part, r.variant.name, *cells, str(minus or "")])
        named = {"part": r.variant.part, "name": r.variant.name, **r.setting._asdict(), **r.figures}
        lines.append({**named, "minus_base": None if minus is None else minus._asdict()})
    title = f"mAP minus that of {base.variant.name}"
    text = markdown(["part", "variant", *COLUMNS.values(), title], rows)
    print(text)
    write_text(out / "attention.md", text)
    name = f"{base.variant.part}, {base.variant.name}"
    write_json(out / "attention.json", {"settings": settings, "base": name, "variants": lines})
    print(out / "attention.json", out / "attention.md", sep="\n")
    return out / "attention.json"
