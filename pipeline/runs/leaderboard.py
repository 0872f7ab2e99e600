"""A sweep's heads by validation score: one line per setting, mean ± deviation over its seeds."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import TrainConfig
from pipeline.errors import RunError
from pipeline.files import read_json, write_json
from pipeline.runs import folder as runs
from pipeline.runs.stack import stack_of
from pipeline.training.validation import MAP, TOP1, score_in

SETTING = ("shape", "lr", "weight_decay")
"""What tells settings apart; rate and decay are null of a head that is computed instead of trained."""


def entry(config: TrainConfig, folder: str, summary: dict[str, Any]) -> dict[str, Any]:
    """A head's line: its settings, its folder inside the sweep's, and its summary."""
    (head,) = stack_of(config)
    settings = {**head.setting._asdict(), "seed": head.seed}
    return {"folder": folder, "shape": config.group_name, **settings, **summary}


def heads_in(config: TrainConfig) -> list[dict[str, Any]]:
    """The heads of a finished run, best first, with folders inside the one above the run's.

    Raises: RunError when it isn't finished.
    """
    folder = config.run_dir
    if (folder / runs.LEADERBOARD).exists():
        return [{**head, "folder": f"{folder.name}/{head['folder']}"} for head in read(folder)]
    return [entry(config, folder.name, read_json(folder / "summary.json"))]


def read(folder: Path) -> list[dict[str, Any]]:
    """The heads of a sweep's folder, best first. Raises: RunError."""
    path = folder / runs.LEADERBOARD
    heads = read_json(path).get("heads")
    if not heads or not all("folder" in head and (TOP1.key in head or MAP.key in head) for head in heads):
        raise RunError(f"{path}: expected the scored heads of a sweep, found none; train it again")
    return heads


def write(run_dir: Path, heads: list[dict[str, Any]]) -> None:
    """Write RUN/leaderboard.json, best first, and print it. Deviations are over seeds, n - 1."""
    heads = sorted(heads, key=rank)
    by_setting = defaultdict(list)
    for head in heads:
        by_setting[tuple(head[name] for name in SETTING)].append(head)
    settings = [_setting(dict(zip(SETTING, s, strict=True)), group) for s, group in by_setting.items()]
    settings.sort(key=rank)
    write_json(run_dir / runs.LEADERBOARD, {"settings": settings, "heads": heads})
    score, width = score_in(heads[0]), max(len("shape"), *(len(setting["shape"]) for setting in settings))
    title = f"validation {score.title}, %"
    print(f"{'shape':<{width}} {'lr':>8} {'weight decay':>13} {'seeds':>6} {title:>20}")
    for setting in settings:
        lr, decay = ("-" if setting[n] is None else f"{setting[n]:g}" for n in ("lr", "weight_decay"))
        spread = setting[score.key + "_std"]
        figure = f"{setting[score.key]:.2f}" + ("" if spread is None else f" ± {spread:.2f}")
        print(f"{setting['shape']:<{width}} {lr:>8} {decay:>13} {setting['seeds']:>6} {figure:>20}")


def _setting(names: dict[str, Any], heads: list[dict[str, Any]]) -> dict[str, Any]:
    name = score_in(heads[0]).key
    score, loss = (np.array([head[n] for head in heads], float) for n in (name, "val_loss"))  # None: NaN
    deviation = float(score.std(ddof=1)) if len(heads) > 1 else None
    figures = {name: float(score.mean()), f"{name}_std": deviation, "val_loss": float(loss.mean())}
    return {**names, "seeds": len(heads), **figures}


def rank(entry: dict[str, Any]) -> tuple[float, float]:
    """Higher score first, then lower loss; what has no validation score comes last."""
    names = (score_in(entry).key, "val_loss")
    score, loss = (float("nan" if entry[name] is None else entry[name]) for name in names)
    return (-score, loss) if np.isfinite(score) else (np.inf, 0.0)
