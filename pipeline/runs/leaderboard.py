"""The heads of a stack or a sweep by validation score, how sure that is, and the best setting among them."""

from collections import defaultdict
from math import inf, isfinite
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from pipeline.errors import RunError
from pipeline.files import read_json, write_json
from pipeline.metrics.bootstrap import Interval
from pipeline.metrics.intervals import middle
from pipeline.runs.draws import Draws, read_draws
from pipeline.runs.layout import HEAD, LEADERBOARD, SUMMARY
from pipeline.runs.score import MAP, TOP1, few, score_in
from pipeline.runs.stack import Setting
from pipeline.runs.table import number, table

KEYS = ("group", "lr", "weight_decay")
"""The fields that tell lines apart; rate and decay are null for a fitted head."""
UNITS = {
    "val_top1": "per cent of the val_images that are classified right; low and high: Wilson's 95 % interval",
    "val_map": "per cent: mean average precision of the val_images; low and high: 95 % bootstrap over them",
    "std": "sample deviation over seeds, which share the val_images",
    "minus_first": "percentage points: the setting minus the first; low and high: 95 % paired bootstrap over "
    "the val_images. Settings whose interval reaches 0 can't be told apart from the first",
}


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
    if not are_scored(heads):
        raise RunError(f"{path}: expected the scored heads of a sweep, found none; train it again")
    for folder in (head["folder"] for head in heads):
        if not _is_inside(folder):
            raise RunError(f"{path}: expected folders inside {run_dir}, found {folder!r}; train it again")
    return heads


def are_scored(heads: Any) -> TypeGuard[list[dict[str, Any]]]:
    """Whether these are a leaderboard's heads, as far as their fields go: a folder and a score, or none."""
    return isinstance(heads, list) and len(heads) > 0 and all(map(_is_scored, heads))


def _is_scored(head: Any) -> bool:
    if not isinstance(head, dict) or not isinstance(head.get("folder"), str):
        return False
    return any(isinstance(head.get(key, ""), float | int | None) for key in (TOP1.key, MAP.key))


def _is_inside(folder: str) -> bool:
    """Whether a relative path names something below, by its words alone: it doesn't have to be there."""
    place = PurePosixPath(folder)
    return bool(place.parts) and not place.is_absolute() and ".." not in place.parts and "\0" not in folder


def write(run_dir: Path, heads: list[dict[str, Any]]) -> None:
    """Write RUN/leaderboard.json as `save` does, and print a line per setting: mean ± deviation over its
    seeds, its interval, and its difference to the first with an interval over the same images.

    Raises: RunError as `save`.
    """
    _print(save(run_dir, heads))


def save(run_dir: Path, heads: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write RUN/leaderboard.json, best first, and give its settings.

    `heads` are summaries with a folder inside RUN. Deviations are sample deviations (n - 1).
    Raises: RunError when the scores on draws in a head's folder are missing or damaged.
    """
    heads = sorted(heads, key=rank)
    same = defaultdict(list)
    for head in heads:
        same[tuple(head[name] for name in KEYS)].append(head)
    lines = sorted((_mean(run_dir, seeds) for seeds in same.values()), key=lambda line: rank(line[0]))
    settings = [line for line, _ in lines]
    for line, draws_R in lines:
        line["minus_first"] = _minus(line, draws_R, *lines[0])
    write_json(run_dir / LEADERBOARD, {"settings": settings, "heads": heads, "units": UNITS})
    return settings


def _mean(run_dir: Path, heads: list[dict[str, Any]]) -> tuple[dict[str, Any], Draws | None]:
    """A setting's line and scores on draws, each the mean over its heads, one per seed."""
    kind = score_in(heads[0])
    score, loss = (np.array([head[n] for head in heads], float) for n in (kind.key, "val_loss"))  # None: NaN
    images, mean = heads[0]["val_images"], float(score.mean())
    drawn = images and isfinite(mean)  # a mean with a head that diverged is none
    draws_R = np.mean([read_draws(run_dir / head["folder"]) for head in heads], 0) if drawn else None
    deviation = float(score.std(ddof=1)) if len(heads) > 1 else None
    figures = {**kind.figures(mean, images, draws_R), f"{kind.key}_std": deviation}
    diverged = sum(head.get("diverged", False) for head in heads)
    line = {
        **{key: heads[0].get(key) for key in (*KEYS, "folds")},
        "seeds": len(heads),
        "diverged": diverged,
        **figures,
    }
    return {**line, "val_loss": float(loss.mean())}, draws_R


def _minus(
    line: dict[str, Any], draws_R: Draws | None, first: dict[str, Any], first_R: Draws | None
) -> dict[str, float] | None:
    """A setting's score minus the first's; None for the first itself, and where one has no score."""
    key = score_in(line).key
    if line is first or draws_R is None or first_R is None:
        return None
    # Rounded far below what one image counts for, so that equal scores of several seeds differ by zero.
    return Interval(line[key] - first[key], *middle(np.round(draws_R - first_R, 4)))._asdict()


def alike(setting: dict[str, Any]) -> bool:
    """Whether a setting other than the first can't be told apart from it."""
    minus = setting["minus_first"]
    return minus is not None and minus["high"] >= 0


def _print(settings: list[dict[str, Any]]) -> None:
    """Print the settings, best first, and how many of them can't be told apart from the first."""
    score, images = score_in(settings[0]), settings[0]["val_images"]
    title = f"validation {score.title}, %"
    header, rows = ["group", "lr", "weight decay", "seeds", title, "95 % interval", "minus the first"], []
    for setting in settings:
        lr, decay = ("-" if setting[n] is None else f"{setting[n]:g}" for n in ("lr", "weight_decay"))
        value, spread, low, high = (setting[score.key + end] for end in ("", "_std", "_low", "_high"))
        deviation = "" if spread is None else f" ± {spread:.2f}"
        interval = "" if low is None else f"[{low:.2f}, {high:.2f}]"
        minus = "" if setting["minus_first"] is None else str(Interval(**setting["minus_first"]))
        figure = f"{setting['diverged']} diverged" if setting["diverged"] else number(value) + deviation
        rows.append([setting["group"], lr, decay, str(setting["seeds"]), figure, interval, minus])
    print(table(header, rows))
    if images:
        count = sum(map(alike, settings))
        told = (
            f"; {count} of the other {len(settings) - 1} can't be told apart from the first" if count else ""
        )
        folds = f" in {settings[0]['folds']} folds" if settings[0]["folds"] else ""
        print(f"intervals over {images:,} validation images{folds}{told}", *few(settings[0]), sep="\n")


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
