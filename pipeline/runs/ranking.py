"""The best of some runs by validation, and which of the others can't be told apart from it."""

from collections.abc import Sequence

import numpy as np

from pipeline.errors import RunError
from pipeline.metrics.bootstrap import Interval
from pipeline.metrics.intervals import middle
from pipeline.runs.layout import read_config
from pipeline.runs.ledger import Entry
from pipeline.runs.score import read_draws

SAME = ("cache_images", "labels_sha256", "class_names", "data_seed", "per_class", "val_fraction", "folds")
"""What decides which images a head was validated on."""


def in_words(found: Sequence[Entry]) -> str:
    """The best finished run and its score, and the runs that can't be told apart from it on the same images.

    Raises: RunError when none has a validation score, or scores are of two kinds.
    """
    scored = [e for e in found if e.state == "finished" and e.facts["score"] is not None]
    if not scored:
        raise RunError(f"none of {len(found):,} runs is finished and has a validation score")
    kinds = sorted({entry.facts["metric"] for entry in scored})
    if len(kinds) > 1:
        raise RunError(f"runs have two kinds of score, {' and '.join(kinds)}; add --where metric={kinds[0]}")
    best, *others = sorted(scored, key=lambda entry: -entry.facts["score"])
    facts = best.facts
    interval = "" if facts["low"] is None else f" [{facts['low']:.2f}, {facts['high']:.2f}]"
    lines = [
        f"{best.folder}: {facts['head']}, validation {kinds[0]} {facts['score']:.2f} %{interval} "
        f"over {facts['images']:,} images"
    ]
    images = _images(best)
    like = [entry for entry in others if _images(entry) == images]
    draws = read_draws(best.folder)
    near = []
    for entry in like:
        low, high = middle(np.round(read_draws(entry.folder) - draws, 4))
        if high >= 0:
            near.append((entry, Interval(entry.facts["score"] - facts["score"], low, high)))
    lines.append(f"{len(near)} of {len(like)} others on the same images can't be told apart from it")
    lines += [f"  {entry.folder}: {minus}" for entry, minus in near[:10]]
    if elsewhere := len(others) - len(like):
        lines.append(f"{elsewhere} more were validated on other images, so that only intervals compare them")
    return "\n".join(lines)


def _images(entry: Entry) -> list[object]:
    config = read_config(entry.folder, "train")
    return [config.get(name) for name in SAME]
