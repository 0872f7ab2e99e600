"""The best of some runs by validation, and which of the others can't be told apart from it."""

import json
import warnings
from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from pipeline.errors import RunError
from pipeline.metrics.bootstrap import Interval
from pipeline.metrics.intervals import middle
from pipeline.runs.draws import Draws, read_draws
from pipeline.runs.layout import read_config
from pipeline.runs.ledger import Entry

SAME = ("cache_images", "labels_sha256", "class_names", "data_seed", "per_class", "val_fraction", "folds")
"""What decides which images a head was validated on."""
SHARED = ("cache_key", *SAME)
"""What the runs of a leaderboard have in common: their maps, and the images that they were validated on."""


class Standing(NamedTuple):
    """Runs that were validated on the same images, seen from the best of them."""

    best: Entry
    others: list[tuple[Entry, Interval | None]]
    """From the highest score down; each one's score minus that of the best, in percentage points. None where
    the scores on draws of the images can't be read, so that nothing can be said."""

    @property
    def near(self) -> list[tuple[Entry, Interval]]:
        """Those that can't be told apart from the best: their interval reaches zero."""
        return [(entry, minus) for entry, minus in self.others if minus is not None and minus.high >= 0]

    @property
    def metric(self) -> str:
        """What they are scored by: top-1 or mAP."""
        return self.best.facts["metric"]

    def __len__(self) -> int:
        return 1 + len(self.others)


def standings(found: Sequence[Entry]) -> list[Standing]:
    """The finished runs that have a validation score, in groups of the same images; the group with the
    highest score first. A run whose config.json can't be read is in none."""
    groups: dict[str, list[Entry]] = {}
    for entry in sorted(filter(is_scored, found), key=_rank):
        try:
            images = json.dumps([entry.facts["metric"], *images_of(entry)])
        except (RunError, RecursionError):
            continue
        groups.setdefault(images, []).append(entry)
    return [_standing(*group) for group in groups.values()]


def _rank(entry: Entry) -> tuple[float, float]:
    """The higher score first, of equal ones the lower loss, as leaderboards have it."""
    loss = entry.facts["loss"]
    return -entry.facts["score"], inf if loss is None else loss


def is_scored(entry: Entry) -> bool:
    """Whether a run is finished and has a validation score."""
    return entry.state == "finished" and entry.facts["score"] is not None


def images_of(entry: Entry) -> list[object]:
    """What decides which images a run was validated on. Raises: RunError as `read_config`."""
    config = read_config(entry.folder, "train")
    return [config.get(name) for name in SAME]


def _standing(best: Entry, *others: Entry) -> Standing:
    draws = _draws(best)
    return Standing(best, [(entry, _minus(entry, best, draws)) for entry in others])


def _minus(entry: Entry, best: Entry, draws: Draws | None) -> Interval | None:
    own = _draws(entry)
    if draws is None or own is None or len(own) != len(draws):
        return None
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):
        low, high = middle(np.round(own - draws, 4))
    if not np.isfinite([low, high]).all():
        return None
    return Interval(entry.facts["score"] - best.facts["score"], low, high)


def _draws(entry: Entry) -> Draws | None:
    try:
        return read_draws(entry.folder)
    except RunError:
        return None


def in_words(found: Sequence[Entry]) -> str:
    """The best finished run and its score, and the runs that can't be told apart from it on the same images.

    Raises: RunError when none has a validation score, or scores are of two kinds.
    """
    groups = standings(found)
    if not groups:
        raise RunError(f"none of {len(found):,} runs is finished and has a validation score")
    kinds = sorted({group.metric for group in groups})
    if len(kinds) > 1:
        raise RunError(f"runs have two kinds of score, {' and '.join(kinds)}; add --where metric={kinds[0]}")
    first = groups[0]
    best, facts = first.best, first.best.facts
    interval = "" if facts["low"] is None else f" [{facts['low']:.2f}, {facts['high']:.2f}]"
    lines = [
        f"{best.folder}: {facts['head']}, validation {kinds[0]} {facts['score']:.2f} %{interval} "
        f"over {facts['images']:,} images",
        f"{len(first.near)} of {len(first.others)} others on the same images can't be told apart from it",
    ]
    lines += [f"  {entry.folder}: {minus}" for entry, minus in first.near[:10]]
    if unknown := sum(minus is None for _, minus in first.others):
        lines.append(f"of {unknown} the scores on draws, validation.npy, can't be read: not compared")
    if elsewhere := sum(map(len, groups[1:])):
        lines.append(f"{elsewhere} more were validated on other images, so that only intervals compare them")
    return "\n".join(lines)
