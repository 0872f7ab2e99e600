"""Runs against the first of them, on the same images."""

from pathlib import Path

import numpy as np

from pipeline.bootstrap import paired_interval
from pipeline.config import EvaluateConfig
from pipeline.errors import RunError
from pipeline.predictions import Predictions
from pipeline.report import table
from pipeline.runs import write_json


def compare(config: EvaluateConfig, folders: list[Path]) -> Path:
    """Top-1 of each run minus the first's, with 95 % paired intervals: printed, and written to --out.

    Raises: RunError when the runs were not scored on the same images with the same labels.
    """
    first, *others = folders
    base = Predictions.load(first / "eval/predictions.npz")
    intervals = []
    for folder in others:
        other = Predictions.load(folder / "eval/predictions.npz")
        refuse_other_images(first, base, folder, other)
        drawn = {"resamples": config.resamples, "seed": config.seed}
        intervals.append(paired_interval(base.correct, other.correct, **drawn))
    images, named = len(base.labels), list(zip(map(str, others), intervals, strict=True))
    print(f"top-1 minus that of {first}, percentage points, 95 % interval over {images:,} images:")
    print(table(["run", "difference", "from", "to"], [[n, *(f"{x:+.2f}" for x in i)] for n, i in named]))
    path = Path(config.out or "artifacts/comparison.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "baseline": str(first),
        "images": images,
        "unit": "percentage points of top-1, run minus baseline; low, high: 95 % paired bootstrap",
        "resamples": config.resamples,
        "seed": config.seed,
        "runs": [{"run": name, **interval._asdict()} for name, interval in named],
    }
    write_json(path, facts)
    return path


def refuse_other_images(folder_a: Path, a: Predictions, folder_b: Path, b: Predictions) -> None:
    """Raises: RunError naming the first image that differs in path or in its label's name."""
    problem = f"{folder_b}: can't be compared with {folder_a}, which was scored on other images"
    if len(a.paths) != len(b.paths):
        raise RunError(f"{problem}: {len(a.paths):,} of them, here {len(b.paths):,}")
    names_a, names_b = a.classes[a.labels], b.classes[b.labels]
    differing = np.flatnonzero((a.paths != b.paths) | (names_a != names_b))
    if len(differing):
        row = differing[0]
        there, here = (f"{p[row]} ({names[row]})" for p, names in ((a.paths, names_a), (b.paths, names_b)))
        raise RunError(f"{problem}: number {row} is {there}, here {here}")
