"""Compare runs with the first of them, on the same images."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RunError
from pipeline.evaluation.predict import Predictions
from pipeline.files import write_json
from pipeline.metrics.bootstrap import Interval, mean_ap_interval, top1_interval
from pipeline.runs.table import table


def compare(
    folders: list[Path], predictions: list[Predictions], out: Path, *, resamples: int, seed: int
) -> Path:
    """Print and write each run's top-1 (multi-label: mAP) minus the first's, with 95 % paired intervals.

    Raises: RunError when the runs were not scored on the same images with the same labels.
    """
    (first, base), *others = zip(folders, predictions, strict=True)
    runs = []
    for folder, other in others:
        if base.multi_label:
            logits = logits_in_order(first, base, folder, other)
            found = mean_ap_interval(base.logits, logits, base.labels, resamples=resamples, seed=seed)
        else:
            refuse_other_images(first, base, folder, other)
            found = top1_interval(base.correct, other.correct, resamples=resamples, seed=seed)
        runs.append({"run": str(folder), **found._asdict()})
    score, images = "mAP" if base.multi_label else "top-1", len(base.labels)
    print(f"{score} minus that of {first}, percentage points, 95 % interval over {images:,} images:")
    rows = [[str(run["run"]), *(f"{run[name]:+.2f}" for name in Interval._fields)] for run in runs]
    print(table(["run", "difference", "from", "to"], rows))
    facts = {
        "baseline": str(first),
        "images": images,
        "unit": f"percentage points of {score}, run minus baseline; low, high: 95 % paired bootstrap",
        "resamples": resamples,
        "seed": seed,
        "runs": runs,
    }
    write_json(out, facts)
    return out


def refuse_mixed(folders: list[Path], predictions: list[Predictions]) -> None:
    """Raises: RunError when some runs have one label per image and some several."""
    multi_label = [found.multi_label for found in predictions]
    if len(set(multi_label)) > 1:
        one, several = (folders[multi_label.index(kind)] for kind in (False, True))
        raise RunError(f"{several}: has several labels per image, {one} has one: they can't be compared")


def logits_in_order(folder_a: Path, a: Predictions, folder_b: Path, b: Predictions) -> NDArray[np.float32]:
    """The logits of multi-label run b, (N, K), with the classes in a's order.

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
        there, here = (f"{run.paths[row]} ({_labels(run, row)})" for run in (a, b))
        raise RunError(f"{problem}: number {row} is {there}, here {here}")


def _labels(run: Predictions, row: np.intp) -> str:
    """The names of an image's labels; a question mark follows one that is not counted."""
    if not run.multi_label:
        return str(run.classes[run.labels[row]])
    labels = zip(run.classes, run.labels[row], strict=True)
    return ", ".join(f"{name}{'?' if value < 0 else ''}" for name, value in labels if value) or "no label"
