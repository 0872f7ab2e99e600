"""Heads that are computed from all maps at once: all of them in memory, one call, the same run folder."""

import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from pipeline.files import append_line, keep_lines, write_json
from pipeline.heads.base import Examples, FittedHead
from pipeline.maps.batches import MapsInMemory
from pipeline.maps.parts import Part
from pipeline.maps.source import Source, damaged, drawn_views
from pipeline.progress import Progress, over
from pipeline.runs.draws import write_draws
from pipeline.runs.folder import write_head
from pipeline.runs.layout import METRICS, SUMMARY
from pipeline.runs.leaderboard import rank
from pipeline.runs.out_of_fold import LARGEST, write_out_of_fold
from pipeline.runs.score import Score, few, score_of
from pipeline.runs.thresholds import write_thresholds
from pipeline.runs.tracking import tracking
from pipeline.training.validation import Answers, joined, validate


class Computed(NamedTuple):
    """A fitted head in every setting that was tried."""

    lines: list[dict[str, Any]]  # the settings, with their scores
    best: int  # of them
    weights: dict[str, Tensor]  # (1, ...) of the best
    answers: Answers | None  # on the validation part, if there is one


def compute(head: FittedHead, source: Source, train_part: Part, val_part: Part, name: str) -> Computed:
    """Compute the head in each setting, from every drawn view of each image; the validation part chooses.

    Raises: CacheError on maps that are not finite, which no writer lets into a cache.
    """
    maps = MapsInMemory(source, train_part, drawn_views(source.cache), "training maps")
    if not maps.examples.isfinite().all():
        raise damaged(source.cache.path)
    score = score_of(train_part.labels)
    answers = None if maps.folds is None else answers_by_fold(head, maps, maps.folds, name)
    lines = head.fit(examples_of(maps), choose=answers is not None or len(val_part.rows) > 0)
    if len(val_part.rows):
        val = MapsInMemory(source, val_part, 1, "validation maps")
        with Progress(f"validating {name}", len(val_part.rows), "images") as progress:
            answers = validate({None: head}, val, progress.advance)
    if answers is not None:
        found = answers.scores().tolist(), answers.losses.tolist()
        lines = [
            line | {score.key: s, "val_loss": loss} for line, s, loss in zip(lines, *found, strict=False)
        ]
        if not np.isfinite(answers.scores()).any():
            raise damaged(source.cache.path)
    best = min(range(len(lines)), key=lambda m: rank(unknown(score) | lines[m]))
    weights = {name: v[best : best + 1] if len(v) > 1 else v for name, v in head.state_dict().items()}
    return Computed(lines, best, weights, answers)


def unknown(score: Score) -> dict[str, None]:
    """What a leaderboard ranks by, where nothing is known of it."""
    return dict.fromkeys((score.key, "val_loss", "lr", "weight_decay", "seed"))


def fit(
    head: FittedHead,
    source: Source,
    train_part: Part,
    val_part: Part,
    run_dir: Path,
    facts: dict[str, Any],
    log: str | None = None,
) -> None:
    """Compute the head in the setting that does best on the validation part, and fill the run folder.

    `facts` go into the summary, `log` names a tracker. Raises: CacheError as `compute`.
    """
    started = time.perf_counter()
    lines, best, weights, answers = compute(head, source, train_part, val_part, run_dir.name)
    score = score_of(train_part.labels)
    none, seconds = unknown(score), time.perf_counter() - started
    keep_lines(run_dir / METRICS, 0)
    for line in lines:
        append_line(run_dir / METRICS, line)
    write_head(run_dir, weights, source.normaliser)
    summary = {**facts, **none, **lines[best], **score.figures(math.nan)}
    if answers is not None:
        write_draws(run_dir, draws_R := answers.of(best).on_draws()[0])
        write_thresholds(run_dir, answers.thresholds(best))
        write_out_of_fold(run_dir, train_part, answers.of(best).first_logits)
        summary |= score.figures(lines[best][score.key], len(answers.labels), draws_R)
    write_json(run_dir / SUMMARY, {**summary, "seconds": round(seconds, 3), "heads_at_once": 1})
    with tracking(log, [run_dir]) as tracked:
        tracked.begin()
        tracked.end(0, summary)
    setting = ", ".join(f"{name} {value:g}" for name, value in lines[best].items() if name not in none)
    said = f"validation {score.in_words(summary)} with " if answers else ""
    print(f"{said}{setting}", *few(summary), f"{run_dir}: computed in {seconds:.1f} s", sep="\n")


def examples_of(maps: MapsInMemory, learned: Tensor | slice = slice(None)) -> Examples:
    """Every drawn view of the images, or of some of them."""
    examples = maps.examples.unflatten(0, (-1, maps.drawn))[learned].flatten(0, 1)
    return Examples(examples, maps.labels[learned].repeat_interleave(maps.drawn, dim=0))


def answers_by_fold(head: FittedHead, maps: MapsInMemory, folds: Tensor, name: str) -> Answers:
    """What the head says in each setting of the images of each fold, computed from all others."""
    parts = []
    for fold in over(range(int(folds.max()) + 1), f"validating {name}", "folds"):
        head.fit(examples_of(maps, folds != fold), choose=True)
        parts.append(validate({fold: head}, maps, keep=LARGEST))
    return joined(parts)
