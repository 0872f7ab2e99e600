"""Compare trunks and layers by heads that take seconds. In: images. Out: caches, heads, trunks.json, a table.

passes → a cache per layer → quick heads on each → one leaderboard, with the size and speed of each trunk
"""

import contextlib
import io
import math
from pathlib import Path
from typing import Any

from cache import DTYPES, FeatureCache, split_path
from pipeline.comparison.cost import cost_of
from pipeline.comparison.passes import passes
from pipeline.config import CompareTrunksConfig, SweepConfig
from pipeline.device import pick_device
from pipeline.extraction.stage import extract
from pipeline.files import write_json
from pipeline.metrics.bootstrap import Interval
from pipeline.runs import leaderboard
from pipeline.runs.score import few, score_in
from pipeline.runs.table import number, table
from pipeline.training.announce import WARNING
from pipeline.training.sweep import sweep
from pipeline.trunks import load_trunk


def compare_trunks(config: CompareTrunksConfig) -> Path:
    """Rank trunks and layers by the validation scores of heads on their maps; gives the folder.

    Writes OUT/trunks.json, OUT/heads/leaderboard.json, and a cache and heads for each.
    Raises: as `extract` and `train_heads`.
    """
    planned = passes(config)
    specs = [spec for each in planned for spec in each.specs]
    trunks = {
        spec: facts_of(config, spec) for spec in specs
    }  # one that can't be had is refused before all else
    passed = f"{len(planned)} pass{'es' * (len(planned) > 1)} over the images"
    print(f"{passed} for {len(specs)} kinds of maps, {len(config.head)} kinds of heads on each")
    heads = []
    for each in planned:
        extract(each.extraction)
        for spec, cache in zip(each.specs, each.caches, strict=True):
            trunks[spec] |= size_of(cache)
            made = leaderboard.heads_in(train(config.training(cache)))
            heads += [{**head, "trunk": spec, "group": f"{spec} {head['group']}"} for head in made]
    run_dir = config.out_dir / "heads"
    settings = leaderboard.save(run_dir, heads)
    by_group = {head["group"]: head["trunk"] for head in heads}
    rows = [{**setting, "trunk": by_group[setting["group"]]} for setting in settings]
    write_json(config.out_dir / "trunks.json", {"trunks": trunks, "heads": rows})
    print(*lines(rows, trunks), f"details: {config.out_dir / 'trunks.json'}", sep="\n")
    return config.out_dir


def train(config: SweepConfig) -> Path:
    """Train heads without their output but for warnings, which are told once they are trained."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run = sweep(config)
    for line in said.getvalue().splitlines():
        if line.startswith(WARNING):
            print(line)
    return run


def facts_of(config: CompareTrunksConfig, spec: str) -> dict[str, Any]:
    """Size and speed of a trunk. Raises: ConfigError, WeightsError."""
    trunk = load_trunk(spec, **config.transform)
    cost = cost_of(trunk, pick_device(config.device))
    return {
        "image_px": trunk.transform.image_px,
        "parameters": cost.parameters,
        "images_per_second": round(cost.images_per_second, 1),
    }


def size_of(cache: Path) -> dict[str, Any]:
    """Where maps are, their shape and size."""
    features = FeatureCache(split_path(cache, "train"))
    _, _, *shape = features.shape
    size = math.prod(shape) * DTYPES[features.dtype].raw.itemsize
    return {"cache": str(cache), "map_shape": shape, "bytes_per_image": size}


def lines(rows: list[dict[str, Any]], trunks: dict[str, dict[str, Any]]) -> list[str]:
    """The table, best first, and how many can't be told apart from the first."""
    score = score_in(rows[0])
    header = ["trunk", "px", "map", "kB/image", "parameters", "images/s", "head"]
    header += [f"validation {score.title}, %", "95 % interval", "minus the first"]
    body = []
    for row in rows:
        facts = trunks[row["trunk"]]
        value, low, high = (row[score.key + end] for end in ("", "_low", "_high"))
        minus = row["minus_first"]
        body.append(
            [
                *(row["trunk"], str(facts["image_px"]), "×".join(map(str, facts["map_shape"]))),
                *(f"{facts['bytes_per_image'] / 1e3:,.1f}", f"{facts['parameters']:,}"),
                *(f"{facts['images_per_second']:,.0f}", row["group"].removeprefix(f"{row['trunk']} ")),
                *(number(value), "" if low is None else f"[{low:.2f}, {high:.2f}]"),
                "" if minus is None else str(Interval(**minus)),
            ]
        )
    alike = sum(map(leaderboard.alike, rows))
    told = f"; {alike} of the other {len(rows) - 1} can't be told apart from the first" if alike else ""
    return [
        table(header, body),
        f"intervals over {rows[0]['val_images']:,} validation images{told}",
        *few(rows[0]),
    ]
