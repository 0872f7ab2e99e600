"""A sweep's heads by validation score: one line per setting, mean ± deviation over its seeds."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import runs
from pipeline.config import TrainConfig


def write(
    run_dir: Path, members: Sequence[tuple[TrainConfig, Path]], summaries: list[dict[str, Any]]
) -> None:
    """Write RUN/leaderboard.json, best first, and print it. Deviations are over seeds, n - 1."""
    heads = [
        {
            "folder": folder.name,
            "lr": c.lr[0],
            "weight_decay": c.weight_decay[0],
            "seed": c.seed[0],
            **summary,
        }
        for (c, folder), summary in zip(members, summaries, strict=True)
    ]
    heads.sort(key=_rank)
    by_setting = defaultdict(list)
    for head in heads:
        by_setting[head["lr"], head["weight_decay"]].append(head)
    settings = [
        {
            "lr": lr,
            "weight_decay": decay,
            "seeds": len(group),
            "val_top1": float(np.mean(scores := [head["val_top1"] for head in group])),
            "val_top1_std": float(np.std(scores, ddof=1)) if len(group) > 1 else None,
            "val_loss": float(np.mean([head["val_loss"] for head in group])),
        }
        for (lr, decay), group in by_setting.items()
    ]
    settings.sort(key=_rank)
    runs.write_json(run_dir / "leaderboard.json", {"settings": settings, "heads": heads})
    print(f"{'lr':>8} {'weight decay':>13} {'seeds':>6} {'validation top-1, %':>20}")
    for setting in settings:
        deviation = "" if setting["val_top1_std"] is None else f" ± {setting['val_top1_std']:.2f}"
        score = f"{setting['val_top1']:.2f}{deviation}"
        print(f"{setting['lr']:>8g} {setting['weight_decay']:>13g} {setting['seeds']:>6} {score:>20}")


def _rank(entry: dict[str, Any]) -> tuple[float, float]:
    """Higher top-1 first, then lower loss; without a validation part all are equal."""
    top1, loss = entry["val_top1"], entry["val_loss"]
    return (-top1, loss) if np.isfinite(top1) else (0.0, 0.0)
