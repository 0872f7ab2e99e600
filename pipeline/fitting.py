"""Heads that are computed from all maps at once: all of them in memory, one call, the same run folder."""

import time
from typing import Any

from pipeline import runs
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.heads.base import Examples, FittedHead
from pipeline.json_files import append_line, keep_lines, write_json
from pipeline.labels import Part
from pipeline.maps import PreparedMaps
from pipeline.source import Source


def fit(config: TrainConfig, source: Source, head: FittedHead, train_part: Part, val_part: Part) -> None:
    """Compute the head, from the first view of each image, and fill the run folder."""
    started = time.perf_counter()
    train = examples(source, train_part, "training maps")
    val = examples(source, val_part, "validation maps") if len(val_part.rows) else None
    chosen, lines = head.fit(train, val)
    seconds = time.perf_counter() - started
    log = config.run_dir / "metrics.jsonl"
    keep_lines(log, 0)
    for line in lines:
        append_line(log, line)
    runs.write_head(config.run_dir, head.state_dict(), source.normaliser)
    none = dict.fromkeys(("val_top1", "val_loss", "lr", "weight_decay", "seed"))
    summary: dict[str, Any] = {**none, **chosen, "seconds": round(seconds, 3), "heads_at_once": 1}
    write_json(config.run_dir / "summary.json", summary)
    setting = ", ".join(f"{name} {value:g}" for name, value in chosen.items() if name not in none)
    score = f"validation top-1 {chosen['val_top1']:.2f} % with " if val else ""
    print(f"{score}{setting}\n{config.run_dir}: computed in {seconds:.1f} s")


def examples(source: Source, part: Part, name: str) -> Examples:
    """A whole part as the head reads it, the first view of each image."""
    maps = PreparedMaps(source, part, 1, name)
    return Examples(maps.inputs, maps.labels)


def check_memory(config: TrainConfig, source: Source, images: int) -> None:
    """Raises: ConfigError when inputs, and as much again for the head, don't fit into the memory budget."""
    needed = 2 * source.prepared_bytes(images) + source.working_bytes(0)
    if config.memory_budget_mb and needed > config.memory_budget_mb << 20:
        raise ConfigError(
            f"--memory-budget-mb: {config.head} takes all images at once, {needed / (1 << 20):,.0f} MB for "
            f"{images:,} of them, found {config.memory_budget_mb}; raise it or take fewer with --per-class"
        )
