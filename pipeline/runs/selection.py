"""Which of a sweep's settings is best by validation, and where its heads are."""

from math import inf
from pathlib import Path

from pipeline.files import read_json
from pipeline.runs import leaderboard
from pipeline.runs.stack import Setting
from pipeline.training.validation import score_in


def choose(sweeps: list[Path], grid: list[Setting]) -> Setting:
    """The setting with the best mean validation score over the sweeps; of equal ones, the lowest loss."""
    scores: dict[Setting, list[tuple[float, float]]] = {setting: [] for setting in grid}
    for folder in sweeps:
        for setting in grid:
            summary = read_json(head_folder(folder, setting, None) / "summary.json")
            score, loss = summary[score_in(summary).key], summary["val_loss"]  # null where a head diverged
            scores[setting].append((-inf if score is None else score, -inf if loss is None else -loss))
    return max(grid, key=lambda s: tuple(sum(part) / len(part) for part in zip(*scores[s], strict=True)))


def head_folder(folder: Path, setting: Setting, seed: int | None) -> Path:
    """The folder of one head of a sweep; of its only seed when `seed` is None."""
    if (folder / "summary.json").is_file():  # a sweep of one head is that head's run
        return folder
    return folder / next(
        head["folder"]
        for head in leaderboard.read(folder)
        if (head["lr"], head["weight_decay"]) == setting and seed in (None, head["seed"])
    )


def drop_losers(folder: Path, keep: list[Path]) -> None:
    """Delete the weights of a sweep's heads that were not chosen; their scores stay."""
    for weights in folder.glob("*/head.safetensors"):
        if weights.parent not in keep:
            weights.unlink()
