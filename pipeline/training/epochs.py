"""A stack of heads trained from its first epoch, or its checkpoint, to the results in its run folders."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RunError
from pipeline.files import append_line, keep_lines, read_json, write_json
from pipeline.maps.normaliser import Normaliser
from pipeline.progress import Progress
from pipeline.runs import leaderboard
from pipeline.runs.draws import Draws, write_draws
from pipeline.runs.folder import write_head
from pipeline.runs.layout import CHECKPOINT, HEAD, METRICS, SUMMARY
from pipeline.runs.members import summaries
from pipeline.runs.out_of_fold import write_out_of_fold
from pipeline.runs.score import few
from pipeline.runs.stack import StackedHead
from pipeline.runs.thresholds import write_thresholds
from pipeline.runs.tracking import Tracking, tracking
from pipeline.training.trainer import Trainer
from pipeline.training.validation import Answers

CHECKPOINT_SECONDS = 30.0
"""How much training a kill may cost."""
CHECKPOINT_SHARE = 0.1
"""What checkpoints may take of the time: those of large heads are written less often."""


class Checkpoint:
    """Saves the trainer's state whenever a kill would cost too much."""

    def __init__(self, trainer: Trainer, path: Path) -> None:
        self.trainer, self.path = trainer, path
        self.saved, self.wait = time.perf_counter(), CHECKPOINT_SECONDS

    def save_if_due(self) -> None:
        """Raises: WeightsError."""
        started = time.perf_counter()
        if started - self.saved > self.wait:
            self.trainer.save(self.path)
            self.saved = time.perf_counter()
            self.wait = max(CHECKPOINT_SECONDS, (self.saved - started) / CHECKPOINT_SHARE)


def name_of(run_dir: Path) -> str:
    """What the training of a run is called while it goes on."""
    return f"training {run_dir.name}"


def run_epochs(trainer: Trainer, stack: Sequence[StackedHead], run_dir: Path, tracked: Tracking) -> int:
    """Train to the end, from the checkpoint if there is one; gives how many images the heads were shown.

    Raises: RunError when every head diverges.
    """
    path, logs = run_dir / CHECKPOINT, [head.folder / METRICS for head in stack]
    if path.exists():
        trainer.load(path)
    plan, (first, step), checkpoint = trainer.plan, trainer.done, Checkpoint(trainer, path)
    for log in logs:
        keep_lines(log, first)
    tracked.begin()
    total, done = plan.epochs * plan.rows, first * plan.rows + min(step * plan.batch, plan.rows)
    with Progress(name_of(run_dir), total, "images", done) as progress:

        def on_step(images: int) -> None:
            progress.advance(images)
            checkpoint.save_if_due()

        for epoch in range(first, plan.epochs):
            lines = trainer.epoch(epoch, on_step)
            for m, (log, line) in enumerate(zip(logs, lines, strict=True)):
                append_line(log, line)
                tracked.log(m, epoch + 1, line)
            if not any(np.isfinite(line["train_loss"]) for line in lines):
                how = f"the loss is not finite after {epoch + 1} of {plan.epochs} epochs"
                raise diverged(run_dir, how, trainer.train.source.verify)
            progress.note(f"best {trainer.best_score.max():.2f} %")
            checkpoint.save_if_due()
    if trainer.has_diverged.all():
        raise diverged(run_dir, "no epoch ended with finite scores", trainer.train.source.verify)
    return total - done


def finite(value: float) -> float | None:
    """A number for JSON, or nothing."""
    return float(value) if np.isfinite(value) else None


def diverged(run_dir: Path, how: str, verify: bool) -> RunError:
    """What to say when all heads did. Where digests aren't checked, damaged maps may be the reason."""
    unless = "" if verify else "; or leave out --no-verify, for the cache may be damaged"
    return RunError(f"{run_dir}: diverged: {how}; give a smaller --lr and another --out{unless}")


def train_stack(
    trainer: Trainer, stack: Sequence[StackedHead], normaliser: Normaliser, run_dir: Path
) -> None:
    """Run all epochs, then write each head's weights and summary, and the leaderboard of several.

    A head that diverged has no weights and no score. Images and seconds in the summaries are this call's; a
    run that was continued took more.
    """
    with tracking(stack[0].config.log, [head.folder for head in stack]) as tracked:
        seconds = _train_tracked(trainer, stack, normaliser, run_dir, tracked)
    if stack[0].folder != run_dir:
        leaderboard.write(run_dir, summaries(run_dir))
    elif trainer.val is not None:
        summary = read_json(run_dir / SUMMARY)
        epochs = f"{trainer.best_epoch[0] + 1} of {trainer.plan.epochs} epochs"
        print(f"validation {trainer.score.in_words(summary)} after {epochs}", *few(summary), sep="\n")
    print(f"{run_dir}: trained in {seconds:.1f} s")
    (run_dir / CHECKPOINT).unlink(missing_ok=True)


def _train_tracked(
    trainer: Trainer,
    stack: Sequence[StackedHead],
    normaliser: Normaliser,
    run_dir: Path,
    tracked: Tracking,
) -> float:
    """Run all epochs, and write all of each head; gives the seconds that the epochs took."""
    started = time.perf_counter()
    shown = run_epochs(trainer, stack, run_dir, tracked)
    seconds = time.perf_counter() - started
    answers = trainer.answers()
    figures = _figures(trainer, answers)
    facts = {
        "seconds": round(seconds, 3),
        "images_per_second": round(shown / seconds),
        "heads_at_once": len(trainer.head.seeds),
    }
    for m, (head, (found, draws_R)) in enumerate(zip(stack, figures, strict=True)):
        has_diverged = bool(trainer.has_diverged[m])
        if has_diverged:
            (head.folder / HEAD).unlink(missing_ok=True)
        else:
            write_head(head.folder, trainer.weights(m), normaliser)
        if answers is not None and draws_R is not None:
            write_draws(head.folder, draws_R)
            write_thresholds(head.folder, answers.thresholds(m))
            write_out_of_fold(head.folder, trainer.train.part, answers.of(m).first_logits)
        best = {
            "diverged": has_diverged,
            "best_epoch": None if has_diverged else int(trainer.best_epoch[m]) + 1,
        }
        summary = {**head.facts(), **best, **found, **facts}
        write_json(head.folder / SUMMARY, summary)
        tracked.end(m, summary)
    return seconds


def _figures(trainer: Trainer, answers: Answers | None) -> list[tuple[dict[str, Any], Draws | None]]:
    """Each head's score with its interval, and its score on draws, which one that diverged has not."""
    heads = range(len(trainer.best_score))
    images, drawn_MR = (0, None) if answers is None else (len(answers.labels), answers.on_draws())
    found = []
    for m, score, loss in zip(heads, trainer.best_score.tolist(), trainer.best_loss.tolist(), strict=True):
        draws_R = None if drawn_MR is None or trainer.has_diverged[m] else drawn_MR[m]
        figures = trainer.score.figures(score, images, draws_R)
        found.append(({**figures, "val_loss": finite(loss)}, draws_R))
    return found
