"""Heads that are computed from all maps at once: all of them in memory, one call, the same run folder."""

import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.files import append_line, keep_lines, write_json
from pipeline.heads.base import Examples, FittedHead
from pipeline.maps.batches import MapsInMemory
from pipeline.maps.parts import Part
from pipeline.maps.source import Source, damaged, drawn_views
from pipeline.progress import Progress
from pipeline.runs.folder import METRICS, SUMMARY, write_head
from pipeline.runs.leaderboard import rank
from pipeline.runs.score import few, score_of, write_draws
from pipeline.training.validation import validate


def fit(
    head: FittedHead, source: Source, train_part: Part, val_part: Part, run_dir: Path, facts: dict[str, Any]
) -> None:
    """Compute the head in the setting that does best on the validation part, and fill the run folder.

    It learns from every drawn view of each image. `facts` go into the summary.

    Raises: CacheError on maps that are not finite, which no writer lets into a cache.
    """
    started, drawn = time.perf_counter(), drawn_views(source.cache)
    maps = MapsInMemory(source, train_part, drawn, "training maps")
    if not maps.examples.isfinite().all():
        raise damaged(source.cache.path)
    examples = Examples(maps.examples, maps.labels.repeat_interleave(drawn, dim=0))
    images, score = len(val_part.rows), score_of(train_part.labels)
    lines, draws = head.fit(examples, choose=images > 0), None
    if images:
        val = MapsInMemory(source, val_part, 1, "validation maps")
        with Progress(f"validating {run_dir.name}", images, "images") as progress:
            answers = validate(head, val, progress.advance)
        found = answers.scores().tolist(), answers.losses.tolist()
        lines = [line | {score.key: s, "val_loss": loss} for line, s, loss in zip(lines, *found, strict=True)]
        draws = answers.on_draws()
        if not np.isfinite(answers.scores()).any():
            raise damaged(source.cache.path)
    none = dict.fromkeys((score.key, "val_loss", "lr", "weight_decay", "seed"))
    best = min(range(len(lines)), key=lambda m: rank(none | lines[m]))
    seconds = time.perf_counter() - started
    keep_lines(run_dir / METRICS, 0)
    for line in lines:
        append_line(run_dir / METRICS, line)
    weights = {name: v[best : best + 1] if len(v) > 1 else v for name, v in head.state_dict().items()}
    write_head(run_dir, weights, source.normaliser)
    value, draws_R = lines[best].get(score.key, math.nan), None if draws is None else draws[best]
    summary = {**facts, **none, **lines[best], **score.figures(value, images, draws_R)}
    if draws_R is not None:
        write_draws(run_dir, draws_R)
    write_json(run_dir / SUMMARY, {**summary, "seconds": round(seconds, 3), "heads_at_once": 1})
    setting = ", ".join(f"{name} {value:g}" for name, value in lines[best].items() if name not in none)
    said = f"validation {score.in_words(summary)} with " if images else ""
    print(f"{said}{setting}", *few(summary), f"{run_dir}: computed in {seconds:.1f} s", sep="\n")
