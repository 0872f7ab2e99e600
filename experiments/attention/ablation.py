"""Heads on images with several labels side by side, and recurrent attention taken apart.

A *variant* is a head with something changed. The learning rate and weight decay of each head in the part
`heads` are chosen by validation mAP of one seed; other variants take over those of recurrent-attention. Then
a head per seed is trained, all of them in one pass, and scored on the test split.
"""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from cache import FeatureCache
from experiments.attention.config import AttentionConfig
from experiments.attention.report import Result, spread, write_report
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.predict import predict
from pipeline.evaluation.regions.hits import rate
from pipeline.evaluation.regions.images import Images
from pipeline.evaluation.regions.look import look
from pipeline.heads.settings import CONSTRAINTS, HeadSettings
from pipeline.runs.selection import Setting, choose, drop_losers, head_folder
from pipeline.training.stage import train

ATTENTION = "recurrent-attention"
HEADS = ("gap", "gmp", "csra", ATTENTION)
STEPS = HeadSettings().steps
BASE = (ATTENTION, "full")
"""What every variant is compared with, and what the parts other than `heads` change."""


class Variant(NamedTuple):
    """A line of the table."""

    part: str
    name: str
    head: str
    crops: str
    changes: dict[str, Any]


def ablate(config: AttentionConfig) -> Path:
    """Train and score every variant; write OUT/attention.json and attention.md; gives the first.

    Raises: ConfigError when the cache's images have one label each; what training and scoring raise.
    """
    cache = FeatureCache(Path(config.cache) / "train.h5")
    if cache.labels.ndim == 1:
        raise ConfigError(
            f"--cache: expected images with several labels, those of {cache.path} have one each"
        )
    images = with_boxes(FeatureCache(Path(config.cache) / "test.h5"))
    lines = variants(config)
    print(f"{len(lines)} variants, {config.seeds} seeds of each, into {config.out_dir}")
    settings: dict[tuple[str, str], Setting] = {}
    results = []
    for line in lines:
        own = (line.head, line.crops) if line.part == "heads" else BASE
        if own not in settings:
            settings[own] = select(config, *own)
        results.append(score(config, line, settings[own], images))
        print(f"{line.part}, {line.name}: mAP {spread(results[-1].figures()['map'])} %", flush=True)
    base = next(r for r in results if r.name == ", ".join(BASE))
    return write_report(config.out_dir, results, base, config.as_json())


def variants(config: AttentionConfig) -> list[Variant]:
    """The lines of the table. The base stands in `heads`, which is always there."""

    def attention(part: str, name: str, **changes: Any) -> Variant:
        return Variant(part, name, *BASE, changes)

    heads = [Variant("heads", f"{h}, {c}", h, c, {}) for h in HEADS for c in config.crops]
    steps = [attention("steps", f"K = {k}", steps=k) for k in range(1, config.max_steps + 1) if k != STEPS]
    left_out = [
        attention("constraints", f"without {name}", constraints=tuple(c for c in CONSTRAINTS if c != name))
        for name in CONSTRAINTS
    ]
    free = attention("constraints", "without any", localisation=0.0)
    start = [
        attention("start", "regions start as the whole map", region_start="whole"),
        attention("start", "regions stay at their anchors", region_start="fixed"),
    ]
    loss = [attention("loss", "softmax-square", loss="softmax-square")]
    kept = {"start": start, "constraints": [*left_out, free], "loss": loss}
    parts = {"heads": heads, "steps": steps, **kept}
    chosen = [line for part in config.parts if part != "heads" for line in parts[part]]
    base = Variant("heads", ", ".join(BASE), *BASE, {})
    listed = heads if "heads" in config.parts else []
    return [*listed, *([] if base in listed else [base]), *chosen]


def select(config: AttentionConfig, head: str, crops: str) -> Setting:
    """The best learning rate and weight decay by validation mAP of the first seed."""
    rates, decays = config.pooling_lr, config.pooling_decay
    if head == ATTENTION:
        rates, decays = config.attention_lr, config.attention_decay
    grid = [Setting(lr, decay) for lr in rates for decay in decays]
    base = train_config(config, "grid", f"{head}-{crops}", head=head, crops=crops)
    folder = train(dataclasses.replace(base, lr=rates, weight_decay=decays, seed=(0,)))
    drop_losers(folder, [])
    return choose([folder], grid)


def score(config: AttentionConfig, line: Variant, setting: Setting, images: Images | None) -> Result:
    """Train a variant's seeds, and score each on the test split."""
    changes = {"head": line.head, "crops": line.crops, **line.changes}
    base = train_config(config, line.part, line.name, **changes)
    fields = {
        "lr": (setting.lr,),
        "weight_decay": (setting.weight_decay,),
        "seed": tuple(range(config.seeds)),
    }
    run = train(dataclasses.replace(base, **fields))
    folders = [head_folder(run, setting, seed) for seed in range(config.seeds)]
    found = [predict(folder, device=config.device) for folder in folders]
    return Result(line.part, line.name, setting, found, region_rates(line, folders, images, config.device))


def with_boxes(test: FeatureCache) -> Images | None:
    """The images that the test maps are of. None, and a line that says so, where they are gone."""
    try:
        return Images(test)
    except DataError as error:
        print(f"regions can't be compared with boxes: {error}")
        return None


def region_rates(
    line: Variant, folders: list[Path], images: Images | None, device: str
) -> list[dict[str, float]]:
    """How often regions lie on predicted objects, per seed, in per cent; nothing where it can't be known."""
    if line.head != ATTENTION or images is None:
        return []
    rates = [rate(look(folder, device=device), images) for folder in folders]
    return [{"hits": found.hits, "chance": found.chance} for found in rates if found is not None]


def train_config(config: AttentionConfig, *place: str, **changes: Any) -> TrainConfig:
    """The settings that all variants share, in a folder of the run's own, with these changes."""
    names = ("region_cells", "dropout", "localisation")
    attention = {"hidden": (config.hidden,), **{name: getattr(config, name) for name in names}}
    return TrainConfig(
        cache=config.cache,
        out=str(config.out_dir.joinpath("runs", *place)),
        epochs=config.epochs,
        batch=config.batch,
        device=config.device,
        resume=True,
        **(attention if changes["head"] == ATTENTION else {}) | changes,
    )
