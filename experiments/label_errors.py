"""Plant wrong labels and count how many of them are found: the table of docs/labels.md.

    python -m experiments.label_errors CACHE [--share 0.05] [--seeds 5] [--nearest]

Of a cache's training images a share gets another label, drawn at random among all others, or that of the most
similar class. A logistic head in five folds gives the probabilities; images are then ranked as evaluate.py
--label-issues ranks them, and, where cleanlab is installed, as it does on the same probabilities. The trunk
must not have been pretrained on these images: it would know their labels.
"""

import argparse
import contextlib
import dataclasses
import io
import shutil
import sys
import tempfile
from collections.abc import Iterator
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
RANKINGS = "self_confidence", "normalized_margin", "confidence_weighted_entropy"
"""cleanlab's, by its default filter; the first is its default."""
COLUMNS = (
    *("seed", "wrong", "issues", "issues that are wrong", "wrong that are issues"),
    *("in the first 10 %", *(f"cleanlab's by {ranking}" for ranking in RANKINGS)),
)


def main(words: list[str]) -> int:
    """Print a row for each seed. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m experiments.label_errors", description=__doc__)
    parser.add_argument("cache", type=Path, help="folder with train.h5, one label per image")
    parser.add_argument("--share", type=float, default=0.05, help="share of the labels to make wrong")
    parser.add_argument("--seeds", type=int, default=5, help="how often to draw them")
    parser.add_argument("--nearest", action="store_true", help="the wrong label is the most similar class")
    asked = parser.parse_args(words)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for seed in range(asked.seeds):
        print(row(asked.cache, asked.share, seed, nearest=asked.nearest), flush=True)
    return 0


def row(cache: Path, share: float, seed: int, *, nearest: bool) -> str:
    """Plant, train, rank; a line of the table, in per cent of the planted errors."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name)
        shutil.copy(cache / "train.h5", folder)
        wrong = plant(folder / "train.h5", share, seed, nearest=nearest)
        settings = {"head": "logistic", "folds": 5, "device": "cpu", "data_seed": seed}
        run = train(TrainConfig(cache=name, out=str(folder / "run"), **settings))
        found = suspects(run, EvaluateConfig(run=(str(run),), label_issues=True, device="cpu"))
    is_issue, first = found.quality.is_issue, round(FIRST * len(found.labels))
    orders = found.order, *cleanlab_orders(found.labels, found.probabilities)
    shares = [
        wrong[is_issue].mean(),
        is_issue[wrong].mean(),
        *(wrong[order[:first]].sum() / wrong.sum() for order in orders),
    ]
    cells = [str(seed), str(wrong.sum()), str(is_issue.sum()), *(f"{x:.1%}" for x in shares)]
    return f"| {' | '.join(cells + ['–'] * (len(COLUMNS) - len(cells)))} |"


def plant(path: Path, share: float, seed: int, *, nearest: bool) -> NDArray[np.bool_]:
    """Give a share of the images another label; says which, (N,)."""
    cache, rng = FeatureCache(path), np.random.default_rng(seed)
    labels, wrong = np.array(cache.labels, np.int64), np.zeros(len(cache), np.bool_)
    wrong[rng.choice(len(labels), round(share * len(labels)), replace=False)] = True
    if nearest:
        labels[wrong] = most_similar(cache)[labels[wrong]]
    else:
        others = rng.integers(1, len(cache.classes), wrong.sum())
        labels[wrong] = (labels[wrong] + others) % len(cache.classes)
    facts = cache.shape, cache.dtype, labels, cache.paths, cache.classes, cache.identity, cache.notes
    relabel(path, dataclasses.replace(CacheHeader(*facts), scales=cache.scales))
    return wrong


def most_similar(cache: FeatureCache) -> NDArray[np.intp]:
    """(K,) the other class whose mean map, averaged over its cells, is nearest."""
    pooled = cache.take(np.arange(len(cache))).astype(np.float32).mean((-2, -1)).reshape(len(cache), -1)
    means = np.stack([pooled[cache.labels == k].mean(0) for k in range(len(cache.classes))])
    apart = np.linalg.norm(means[:, None] - means, axis=2)
    np.fill_diagonal(apart, np.inf)
    return apart.argmin(1)


def cleanlab_orders(
    labels: NDArray[np.integer], probabilities: NDArray[np.float64]
) -> Iterator[NDArray[np.intp]]:
    """The images in cleanlab's orders: its issues, by its default filter, then all others by score."""
    try:
        from cleanlab.filter import find_label_issues
        from cleanlab.rank import get_label_quality_scores
    except ModuleNotFoundError:
        return
    for ranking in RANKINGS:
        issues = find_label_issues(labels, probabilities, return_indices_ranked_by=ranking, n_jobs=1)
        order = np.argsort(get_label_quality_scores(labels, probabilities, method=ranking), kind="stable")
        yield np.concatenate([issues, order[~np.isin(order, issues)]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
