"""Runs against the first of them, on the same images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.config import EvaluateConfig
from pipeline.errors import RunError
from pipeline.evaluation.plots import table
from pipeline.evaluation.predict import Predictions
from pipeline.files import write_json
from pipeline.metrics.bootstrap import Interval, mean_ap_interval, top1_interval


def compare(config: EvaluateConfig, folders: list[Path]) -> Path:
    """Top-1 (multi-label: mAP) of each run minus the first's, with 95 % paired intervals: printed, and
    written to --out.

    Raises: RunError when the runs were not scored on the same images with the same labels.
    """
    first, *others = folders
    base = Predictions.load(first / "eval/predictions.npz")
    intervals = []
    for folder in others:
        other = Predictions.load(folder / "eval/predictions.npz")
        intervals.append(interval(config, (first, base), (folder, other)))
    what = "mAP" if base.multi_label else "top-1"
    images, named = len(base.labels), list(zip(map(str, others), intervals, strict=True))
    print(f"{what} minus that of {first}, percentage points, 95 % interval over {images:,} images:")
    print(table(["run", "difference", "from", "to"], [[n, *(f"{x:+.2f}" for x in i)] for n, i in named]))
    path = Path(config.out or "artifacts/comparison.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "baseline": str(first),
        "images": images,
        "unit": f"percentage points of {what}, run minus baseline; low, high: 95 % paired bootstrap",
        "resamples": config.resamples,
        "seed": config.seed,
        "runs": [{"run": name, **interval._asdict()} for name, interval in named],
    }
    write_json(path, facts)
    return path


def interval(config: EvaluateConfig, a: tuple[Path, Predictions], b: tuple[Path, Predictions]) -> Interval:
    """Of run b minus run a, each with its folder. Raises: RunError when they can't be compared."""
    refuse_mixed([a[0], b[0]], [a[1].multi_label, b[1].multi_label])
    drawn = {"resamples": config.resamples, "seed": config.seed}
    if a[1].multi_label:
        logits_b = logits_in_order(*a, *b)
        return mean_ap_interval(a[1].logits, logits_b, a[1].labels, **drawn)
    refuse_other_images(*a, *b)
    return top1_interval(a[1].correct, b[1].correct, **drawn)


def refuse_mixed(folders: list[Path], multi_label: list[bool]) -> None:
    """Raises: RunError when some runs have one label per image and some several."""
    if len(set(multi_label)) > 1:
        one, several = (folders[multi_label.index(kind)] for kind in (False, True))
        raise RunError(f"{several}: has several labels per image, {one} has one: they can't be compared")


def logits_in_order(folder_a: Path, a: Predictions, folder_b: Path, b: Predictions) -> NDArray[np.float32]:
    """Those of multi-label run b, (N, K), with the classes in a's order.

    Raises: RunError when the classes are others, or naming the first image that differs in path or labels.
    """
    names_a, names_b = a.classes.tolist(), b.classes.tolist()
    if set(names_a) != set(names_b):
        problem = f"{folder_b}: can't be compared with {folder_a}, which knows other classes"
        raise RunError(f"{problem}: only one of them has {', '.join(sorted(set(names_a) ^ set(names_b)))}")
    columns = [names_b.index(name) for name in names_a]
    refuse_other_images(folder_a, a, folder_b, b._replace(labels=b.labels[:, columns], classes=a.classes))
    return b.logits[:, columns]


def refuse_other_images(folder_a: Path, a: Predictions, folder_b: Path, b: Predictions) -> None:
    """Raises: RunError naming the first image that differs in path or in its labels' names."""
    problem = f"{folder_b}: can't be compared with {folder_a}, which was scored on other images"
    if len(a.paths) != len(b.paths):
        raise RunError(f"{problem}: {len(a.paths):,} of them, here {len(b.paths):,}")
    others = (a.labels != b.labels).any(1) if a.multi_label else a.classes[a.labels] != b.classes[b.labels]
    differing = np.flatnonzero((a.paths != b.paths) | others)
    if len(differing):
        row = differing[0]
        there, here = (f"{run.paths[row]} ({named_labels(run, row)})" for run in (a, b))
        raise RunError(f"{problem}: number {row} is {there}, here {here}")


def named_labels(run: Predictions, row: np.intp) -> str:
    """An image's labels; with a question mark those that are not counted."""
    if not run.multi_label:
        return str(run.classes[run.labels[row]])
    labels = zip(run.classes, run.labels[row], strict=True)
    return ", ".join(f"{name}{'?' if value < 0 else ''}" for name, value in labels if value) or "no label"
