"""Plant wrong labels and count how many of them are found: the table of docs/labels.md.

    python -m experiments.label_errors CACHE [--share 0.05] [--seeds 5]

Of a cache's training images a share gets another label, drawn at random among all others. A logistic head in
five folds gives the probabilities; images are then ranked as evaluate.py --label-issues ranks them, and,
where cleanlab is installed, as it does on the same probabilities. The trunk must not have been pretrained on
these images: it would know their labels.
"""

import argparse
import contextlib
import dataclasses
import io
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cache import FeatureCache, relabel
from cache.header import CacheHeader
from pipeline.config import EvaluateConfig, TrainConfig
from pipeline.evaluation.label_issues import suspects
from pipeline.training.stage import train

FIRST = 0.1
"""Share of the ranking that is looked at."""
COLUMNS = "seed", "wrong", "issues", "in the first 10 %", "cleanlab's", "issues that are wrong"


def main(words: list[str]) -> int:
    """Print a row for each seed. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.label_errors", description=__doc__)
    parser.add_argument("cache", type=Path, help="folder with train.h5, one label per image")
    parser.add_argument("--share", type=float, default=0.05, help="share of the labels to make wrong")
    parser.add_argument("--seeds", type=int, default=5, help="how often to draw them")
    asked = parser.parse_args(words)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for seed in range(asked.seeds):
        print(row(asked.cache, asked.share, seed), flush=True)
    return 0


def row(cache: Path, share: float, seed: int) -> str:
    """Plant, train, rank; a line of the table, in per cent of the planted errors."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        shutil.copy(cache / "train.h5", folder)
        wrong = plant(folder / "train.h5", share, seed)
        settings = {"head": "logistic", "folds": 5, "device": "cpu", "data_seed": seed}
        run = train(TrainConfig(cache=name, out=str(folder / "run"), **settings))
        found = suspects(run, EvaluateConfig(run=(str(run),), label_issues=True, device="cpu"))
    first = round(FIRST * len(found.labels))
    issues = found.order[: found.quality.is_issue.sum()]
    shares = [
        wrong[found.order[:first]].sum() / wrong.sum(),
        _cleanlab(found.labels, found.probabilities, wrong, first),
    ]
    right = wrong[issues].mean()
    cells = [*(f"{100 * part:.1f} %" for part in (*shares, right))]
    return f"| {seed} | {wrong.sum()} | {len(issues)} | {' | '.join(cells)} |"


def plant(path: Path, share: float, seed: int) -> NDArray[np.bool_]:
    """Give a share of the images another label; says which, (N,)."""
    cache, rng = FeatureCache(path), np.random.default_rng(seed)
    labels, wrong = np.array(cache.labels, np.int64), np.zeros(len(cache), np.bool_)
    wrong[rng.choice(len(labels), round(share * len(labels)), replace=False)] = True
    labels[wrong] = (labels[wrong] + rng.integers(1, len(cache.classes), wrong.sum())) % len(cache.classes)
    facts = cache.shape, cache.dtype, labels, cache.paths, cache.classes, cache.identity, cache.notes
    relabel(path, dataclasses.replace(CacheHeader(*facts), scales=cache.scales))
    return wrong


def _cleanlab(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64], wrong: NDArray[np.bool_], first: int
) -> float:
    """The share that cleanlab has in the first places: its issues, by its default filter, in its order,
    then all others by score."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_normalized_margin_for_each_label
    except ModuleNotFoundError:
        return float("nan")
    issues = find_label_issues(labels, probabilities, return_indices_ranked_by="normalized_margin", n_jobs=1)
    scores = get_normalized_margin_for_each_label(labels, probabilities)
    rest = [row for row in np.argsort(scores, kind="stable") if row not in set(issues.tolist())]
    return wrong[[*issues.tolist(), *rest][:first]].sum() / wrong.sum()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
