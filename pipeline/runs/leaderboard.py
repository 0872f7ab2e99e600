"""The heads of a stack or a sweep by validation score, and the best setting among them."""

from collections import defaultdict
from math import inf, isfinite
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.errors import RunError
from pipeline.files import read_json, write_json
from pipeline.runs.folder import HEAD, LEADERBOARD, SUMMARY
from pipeline.runs.score import MAP, TOP1, score_in
from pipeline.runs.stack import Setting

KEYS = ("group", "lr", "weight_decay")
"""The fields that tell lines apart; rate and decay are null for a fitted head."""


def heads_in(run_dir: Path) -> list[dict[str, Any]]:
    """The heads of a finished run, best first: their summaries, and their folders seen from the one above.

    Raises: RunError when it isn't finished.
    """
    if (run_dir / LEADERBOARD).exists():
        return [{**head, "folder": f"{run_dir.name}/{head['folder']}"} for head in read(run_dir)]
    return [{"folder": run_dir.name, **read_json(run_dir / SUMMARY)}]


def read(run_dir: Path) -> list[dict[str, Any]]:
    """The heads of a leaderboard, best first; their folders lie inside RUN.

    Raises: RunError when it has none, or names a folder elsewhere.
    """
    path = run_dir / LEADERBOARD
    heads = read_json(path).get("heads")
    if not isinstance(heads, list) or not heads or not all(map(_is_scored, heads)):
        raise RunError(f"{path}: expected the scored heads of a sweep, found none; train it again")
    for folder in (head["folder"] for head in heads):
        if not _is_inside(folder):
            raise RunError(f"{path}: expected folders inside {run_dir}, found {folder!r}; train it again")
    return heads


def _is_scored(head: Any) -> bool:
    if not isinstance(head, dict) or not isinstance(head.get("folder"), str):
        return False
    return any(isinstance(head.get(key, ""), float | int | None) for key in (TOP1.key, MAP.key))


def _is_inside(folder: str) -> bool:
    """Whether a relative path names something below, by its words alone: it doesn't have to be there."""
    place = PurePosixPath(folder)
    return bool(place.parts) and not place.is_absolute() and ".." not in place.parts and "\0" not in folder


def write(run_dir: Path, heads: list[dict[str, Any]]) -> None:
    """Write RUN/leaderboard.json, best first, and print a line per setting: mean ± deviation over its seeds.

    `heads` are summaries with a folder inside RUN. Deviations are sample deviations (n - 1).
    """
    heads = sorted(heads, key=rank)
    seeds = defaultdict(list)
    for head in heads:
        seeds[tuple(head[name] for name in KEYS)].append(head)
    settings = sorted((_mean(same) for same in seeds.values()), key=rank)
    write_json(run_dir / LEADERBOARD, {"settings": settings, "heads": heads})
    score, width = score_in(heads[0]), max(len("group"), *(len(setting["group"]) for setting in settings))
    title = f"validation {score.title}, %"
    print(f"{'group':<{width}} {'lr':>8} {'weight decay':>13} {'seeds':>6} {title:>20}")
    for setting in settings:
        lr, decay = ("-" if setting[n] is None else f"{setting[n]:g}" for n in ("lr", "weight_decay"))
        spread = setting[score.key + "_std"]
        figure = f"{setting[score.key]:.2f}" + ("" if spread is None else f" ± {spread:.2f}")
        if not isfinite(setting[score.key]):
            figure = f"{setting['diverged']} diverged" if setting["diverged"] else "-"
        print(f"{setting['group']:<{width}} {lr:>8} {decay:>13} {setting['seeds']:>6} {figure:>20}")


def _mean(heads: list[dict[str, Any]]) -> dict[str, Any]:
    """A setting's line, from its heads, one per seed."""
    name = score_in(heads[0]).key
    score, loss = (np.array([head[n] for head in heads], float) for n in (name, "val_loss"))  # None: NaN
    deviation = float(score.std(ddof=1)) if len(heads) > 1 else None
    figures = {name: float(score.mean()), f"{name}_std": deviation, "val_loss": float(loss.mean())}
    diverged = sum(head.get("diverged", False) for head in heads)  # a mean with one of them is none
    return {**{key: heads[0][key] for key in KEYS}, "seeds": len(heads), "diverged": diverged, **figures}


def rank(entry: dict[str, Any]) -> tuple[float, float, float]:
    """Sort key: the higher score first, then the lower loss; an entry without a validation score comes after
    them, one that diverged last."""
    diverged = bool(entry.get("diverged"))
    score, loss = (entry[name] for name in (score_in(entry).key, "val_loss"))
    if score is None or not isfinite(score):
        return diverged, inf, inf
    return diverged, -score, loss if loss is not None and isfinite(loss) else inf


def choose(runs: list[Path], grid: list[Setting]) -> Setting:
    """The setting with the best mean validation score over the runs; of equal ones, the lowest loss."""

    def mean_rank(setting: Setting) -> tuple[float, ...]:
        ranks = [rank(read_json(head_folder(run_dir, setting, None) / SUMMARY)) for run_dir in runs]
        return tuple(sum(part) / len(part) for part in zip(*ranks, strict=True))

    return min(grid, key=mean_rank)


def head_folder(run_dir: Path, setting: Setting, seed: int | None) -> Path:
    """The folder of the head with this setting and seed; None: the only seed there is."""
    if (run_dir / SUMMARY).is_file():  # a stack of one head is that head's run
        return run_dir
    return run_dir / next(
        head["folder"]
        for head in read(run_dir)
        if (head["lr"], head["weight_decay"]) == setting and seed in (None, head["seed"])
    )


def drop_losers(run_dir: Path, keep: list[Path]) -> None:
    """Delete the weights of the heads that were not chosen; their scores stay."""
    for weights in run_dir.glob(f"*/{HEAD}"):
        if weights.parent not in keep:
            weights.unlink()
