"""Heads that are computed from all maps at once: all of them in memory, one call, the same run folder."""

import time
from math import isfinite
from pathlib import Path
from typing import Any

from pipeline.files import append_line, keep_lines, write_json
from pipeline.heads.base import Examples, FittedHead
from pipeline.maps.batches import MapsInMemory
from pipeline.maps.parts import Part
from pipeline.maps.source import Source, damaged, drawn_views
from pipeline.runs.folder import METRICS, SUMMARY, write_head
from pipeline.runs.leaderboard import rank
from pipeline.runs.score import score_of
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
    lines, score = head.fit(examples, choose=len(val_part.rows) > 0), score_of(train_part.labels)
    if len(val_part.rows):
        scores, losses = validate(head, MapsInMemory(source, val_part, 1, "validation maps"))
        for line, value, loss in zip(lines, scores.tolist(), losses.tolist(), strict=True):
            line |= {score.key: value, "val_loss": loss}
        if not any(isfinite(line[score.key]) for line in lines):
            raise damaged(source.cache.path)
    none = dict.fromkeys((score.key, "val_loss", "lr", "weight_decay", "seed"))
    best = min(range(len(lines)), key=lambda m: rank(none | lines[m]))
    seconds = time.perf_counter() - started
    keep_lines(run_dir / METRICS, 0)
    for line in lines:
        append_line(run_dir / METRICS, line)
    weights = {name: v[best : best + 1] if len(v) > 1 else v for name, v in head.state_dict().items()}
    write_head(run_dir, weights, source.normaliser)
    summary = {**facts, **none, **lines[best], "seconds": round(seconds, 3), "heads_at_once": 1}
    write_json(run_dir / SUMMARY, summary)
    setting = ", ".join(f"{name} {value:g}" for name, value in lines[best].items() if name not in none)
    said = f"validation {score.title} {lines[best][score.key]:.2f} % with " if len(val_part.rows) else ""
    print(f"{said}{setting}\n{run_dir}: computed in {seconds:.1f} s")
