"""The comparison of heads on images with several labels, as JSON and as a table."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.evaluation.predict import Predictions
from pipeline.files import write_json, write_text
from pipeline.metrics.bootstrap import Interval, mean_ap_interval
from pipeline.metrics.multilabel import score
from pipeline.runs.selection import Setting

COLUMNS = {
    "map": "mAP %",
    "cf1": "CF1 %",
    "of1": "OF1 %",
    "hits": "regions on a predicted object %",
    "chance": "random windows %",
}
"""mAP is not interpolated, F1 at a probability of 0.5."""


class Result(NamedTuple):
    """A variant's outcome."""

    part: str
    name: str
    setting: Setting
    predictions: list[Predictions]
    """Of each seed, on the same test images."""
    regions: list[dict[str, float]]
    """hits and chance of each seed, in per cent; empty where a head has no regions or boxes aren't known."""

    @property
    def logits(self) -> NDArray[np.float32]:
        """(seeds, N, K)"""
        return np.stack([p.logits for p in self.predictions])

    def figures(self) -> dict[str, list[float]]:
        """Of each seed, in per cent."""
        found = [score(p.logits, p.labels, tuple(p.classes.tolist())) for p in self.predictions]
        return {
            "map": [metrics["map"] for metrics in found],
            **{name: [metrics["at_half"][name] for metrics in found] for name in ("cf1", "of1")},
            **{name: [r[name] for r in self.regions] for name in ("hits", "chance") if self.regions},
        }


def write_report(out: Path, results: list[Result], base: Result, settings: dict[str, Any]) -> Path:
    """Write OUT/attention.json and attention.md, print the table; gives the JSON's path.

    `base` is what every other result is compared with, on the same images.
    """
    figures = [result.figures() for result in results]
    intervals = [None if r is base else against(base, r) for r in results]
    text = as_table(results, figures, intervals, base)
    print(text)
    write_text(out / "attention.md", text)
    path = out / "attention.json"
    lines = [
        {
            "part": result.part,
            "name": result.name,
            **result.setting._asdict(),
            **found,
            "minus_base": None if interval is None else interval._asdict(),
        }
        for result, found, interval in zip(results, figures, intervals, strict=True)
    ]
    write_json(path, {"settings": settings, "base": f"{base.part}, {base.name}", "variants": lines})
    print(f"{path}\n{out / 'attention.md'}")
    return path


def against(base: Result, other: Result) -> Interval:
    """mAP of another minus the base's, with the 95 % interval over test images."""
    return mean_ap_interval(base.logits, other.logits, base.predictions[0].labels)


def as_table(
    results: list[Result],
    figures: list[dict[str, list[float]]],
    intervals: list[Interval | None],
    base: Result,
) -> str:
    """A line per variant; mean ± deviation over seeds."""
    title = f"mAP minus that of {base.name}"
    rows = [["part", "variant", *COLUMNS.values(), title], ["---"] * (len(COLUMNS) + 3)]
    for result, found, interval in zip(results, figures, intervals, strict=True):
        cells = [spread(found[name]) if name in found else "" for name in COLUMNS]
        rows.append([result.part, result.name, *cells, str(interval or "")])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def spread(values: list[float]) -> str:
    """Mean ± sample deviation."""
    mean = f"{np.mean(values):.2f}"
    return f"{mean} ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else mean
