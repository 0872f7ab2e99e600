"""Heads that are computed from all maps at once: all of them in memory, one call, the same run folder."""

import time

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.files import append_line, keep_lines, write_json
from pipeline.heads.base import Examples, FittedHead
from pipeline.maps.batches import PreparedMaps
from pipeline.maps.parts import Part
from pipeline.maps.source import Source
from pipeline.runs.folder import METRICS, SUMMARY, write_head
from pipeline.runs.leaderboard import rank
from pipeline.runs.score import score_of
from pipeline.training.validation import validate


def fit(config: TrainConfig, source: Source, head: FittedHead, train_part: Part, val_part: Part) -> None:
    """Compute the head in the setting that does best on the validation part, and fill the run folder."""
    started = time.perf_counter()
    score = score_of(train_part.labels)
    lines = head.fit(examples(source, train_part), choose=len(val_part.rows) > 0)
    if len(val_part.rows):
        scores, losses = validate(head, PreparedMaps(source, val_part, 1, "validation maps"))
        for line, value, loss in zip(lines, scores.tolist(), losses.tolist(), strict=True):
            line |= {score.key: value, "val_loss": loss}
    none = dict.fromkeys((score.key, "val_loss", "lr", "weight_decay", "seed"))
    best = min(range(len(lines)), key=lambda m: rank(none | lines[m]))
    seconds = time.perf_counter() - started
    log = config.run_dir / METRICS
    keep_lines(log, 0)
    for line in lines:
        append_line(log, line)
    weights = {name: v[best : best + 1] if len(v) > 1 else v for name, v in head.state_dict().items()}
    write_head(config.run_dir, weights, source.normaliser)
    summary = {
        "group": config.group_name,
        **none,
        **lines[best],
        "seconds": round(seconds, 3),
        "heads_at_once": 1,
    }
    write_json(config.run_dir / SUMMARY, summary)
    setting = ", ".join(f"{name} {value:g}" for name, value in lines[best].items() if name not in none)
    said = f"validation {score.title} {lines[best][score.key]:.2f} % with " if len(val_part.rows) else ""
    print(f"{said}{setting}\n{config.run_dir}: computed in {seconds:.1f} s")


def examples(source: Source, part: Part) -> Examples:
    """Every drawn view of each image of a part as the head reads it, with the image's label."""
    maps = PreparedMaps(source, part, source.drawn, "training maps")
    return Examples(maps.inputs, maps.labels.repeat_interleave(source.drawn, dim=0))


def check_memory(config: TrainConfig, source: Source, maps: int) -> None:
    """Raises: ConfigError when inputs, and as much again for the head, don't fit into the memory budget."""
    needed = 2 * source.prepared_bytes(maps) + source.working_bytes(0)
    if config.memory_budget_mb and needed > config.memory_budget_mb << 20:
        raise ConfigError(
            f"--memory-budget-mb: {config.head} takes all maps at once, {needed / (1 << 20):,.0f} MB for "
            f"{maps:,} of them, found {config.memory_budget_mb}; raise it or take linear, which takes them "
            "batch by batch"
        )
