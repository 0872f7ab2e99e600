"""A stack of heads trained from its first epoch, or its checkpoint, to the results in its run folders."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.errors import RunError
from pipeline.files import append_line, keep_lines, write_json
from pipeline.maps.source import Normaliser
from pipeline.runs import leaderboard
from pipeline.runs.folder import CHECKPOINT, METRICS, SUMMARY, write_head
from pipeline.runs.stack import StackedHead
from pipeline.training.trainer import Trainer

CHECKPOINT_SECONDS = 30.0
"""How much training a kill may cost."""


def run_epochs(trainer: Trainer, stack: Sequence[StackedHead], run_dir: Path) -> int:
    """Train to the end, from the checkpoint if there is one; gives how many images the heads were shown.

    Raises: RunError when every head diverges.
    """
    checkpoint, logs = run_dir / CHECKPOINT, [head.folder / METRICS for head in stack]
    first = trainer.load(checkpoint) if checkpoint.exists() else 0
    for log in logs:
        keep_lines(log, first)
    plan, saved = trainer.plan, time.perf_counter()
    total, done = plan.epochs * plan.rows, first * plan.rows
    with tqdm(
        total=total, initial=done, desc="training", unit=" images", unit_scale=True, disable=None
    ) as progress:
        for epoch in range(first, plan.epochs):
            lines = trainer.epoch(epoch, progress.update)
            for log, line in zip(logs, lines, strict=True):
                append_line(log, line)
            if not any(np.isfinite(line["train_loss"]) for line in lines):
                raise RunError(
                    f"{logs[0].parent}: the loss is not finite after {epoch + 1} of {plan.epochs} epochs; "
                    "give a smaller --lr and another --out"
                )
            progress.set_postfix(best=f"{trainer.best_score.max():.2f} %")
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                trainer.save(checkpoint, epoch + 1)
                saved = time.perf_counter()
    return total - done


def train_stack(
    trainer: Trainer, stack: Sequence[StackedHead], normaliser: Normaliser, run_dir: Path
) -> None:
    """Run all epochs, then write each head's weights and summary, and the leaderboard of several.

    Images and seconds in the summaries are this call's; a run that was continued took more.
    """
    started = time.perf_counter()
    images = run_epochs(trainer, stack, run_dir)
    seconds = time.perf_counter() - started
    summaries = []
    for m, head in enumerate(stack):
        write_head(head.folder, {name: v[m : m + 1] for name, v in trainer.best.items()}, normaliser)
        summary = {
            **head.facts(),
            "best_epoch": int(trainer.best_epoch[m]) + 1,
            trainer.score.key: float(trainer.best_score[m]),
            "val_loss": float(trainer.best_loss[m]),
            "seconds": round(seconds, 3),
            "images_per_second": round(images / seconds),
            "heads_at_once": len(stack),
        }
        write_json(head.folder / SUMMARY, summary)
        summaries.append({"folder": head.folder.name, **summary})
    if len(stack) > 1:
        leaderboard.write(run_dir, summaries)
    elif trainer.val is not None:
        epochs = f"{trainer.best_epoch[0] + 1} of {trainer.plan.epochs} epochs"
        print(f"validation {trainer.score.title} {trainer.best_score[0]:.2f} % after {epochs}")
    print(f"{run_dir}: trained in {seconds:.1f} s")
    (run_dir / CHECKPOINT).unlink(missing_ok=True)
