"""What training leaves in the run folders."""

from pathlib import Path

from pipeline.files import write_json
from pipeline.maps.source import Source
from pipeline.runs import leaderboard
from pipeline.runs.folder import SUMMARY, write_head
from pipeline.runs.stack import StackedHead
from pipeline.training.trainer import Trainer


def write_results(
    trainer: Trainer, source: Source, stack: list[StackedHead], run_dir: Path, images: int, seconds: float
) -> None:
    """Write each head's weights and summary, and of a sweep the leaderboard.

    Images and seconds are this call's; a run that was gone on with took more.
    """
    summaries = []
    for m, head in enumerate(stack):
        weights = {name: values[m : m + 1] for name, values in trainer.best.items()}
        write_head(head.folder, weights, source.normaliser)
        summary = {
            **head.facts(),
            "best_epoch": int(trainer.best_epoch[m]),
            trainer.score.key: float(trainer.best_score[m]),
            "val_loss": float(trainer.best_loss[m]),
            "seconds": round(seconds, 3),
            "images_per_second": round(images / seconds),
            "heads_at_once": len(stack),
        }
        write_json(head.folder / SUMMARY, summary)
        summaries.append(summary)
    if len(stack) > 1:
        heads = zip(stack, summaries, strict=True)
        leaderboard.write(run_dir, [{"folder": head.folder.name, **summary} for head, summary in heads])
    elif trainer.val is not None:
        best = (
            f"{trainer.best_score[0]:.2f} % after {trainer.best_epoch[0] + 1} of {trainer.plan.epochs} epochs"
        )
        print(f"validation {trainer.score.title} {best}")
    print(f"{run_dir}: trained in {seconds:.1f} s")
