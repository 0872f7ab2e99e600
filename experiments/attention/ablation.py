"""Heads on images with several labels side by side, and recurrent attention taken apart.

A *variant* is a head with something changed. The learning rate and weight decay of each head in the part
`heads` are chosen by validation mAP of one seed; the other variants take over those of recurrent-attention.
Then a head per seed is trained, all of them in one pass, and scored on the test split.
"""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from cache import FeatureCache, split_path
from experiments.attention.config import AttentionConfig
from experiments.attention.report import Result, Variant, write_report
from experiments.refusals import score_unseen
from experiments.tables import spread
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError, DataError
from pipeline.evaluation.logits import open_run
from pipeline.evaluation.regions.hits import rate
from pipeline.evaluation.regions.images import Images
from pipeline.evaluation.regions.look import look
from pipeline.heads.settings import CONSTRAINTS, HeadSettings
from pipeline.metrics import multilabel
from pipeline.progress import over, say
from pipeline.runs.leaderboard import choose, drop_losers, head_folder
from pipeline.runs.stack import Setting
from pipeline.training.stage import train

ATTENTION = "recurrent-attention"
HEADS = ("gap", "gmp", "csra", ATTENTION)
STEPS = HeadSettings().steps
BASE = Variant("heads", f"{ATTENTION}, full", ATTENTION, "full", {})
"""What every variant is compared with, and what the parts other than `heads` change."""


def ablate(config: AttentionConfig) -> Path:
    """Train and score every variant; write OUT/attention.json and attention.md; gives the first.

    Raises: ConfigError when the cache's images have one label each; what training and scoring raise.
    """
    cache = FeatureCache(split_path(config.cache, "train"))
    if not cache.multi_label:
        raise ConfigError(
            f"--cache: expected images with several labels, those of {cache.path} have one each"
        )
    try:
        images = Images(FeatureCache(split_path(config.cache, "test")))
    except DataError as error:
        print(f"regions can't be compared with boxes: {error}")
        images = None
    listed = variants(config)
    print(f"{len(listed)} variants, {config.seeds} seeds of each, into {config.out_dir}")
    settings: dict[tuple[str, str], Setting] = {}
    results = []
    for variant in over(listed, "ablation", "variants"):
        own = (variant.head, variant.crops)
        if own not in settings:
            settings[own] = select(config, *own)
        results.append(score(config, variant, settings[own], images))
        say(f"{variant.part}, {variant.name}: mAP {spread(results[-1].figures['map'])} %")
    base = next(r for r in results if r.variant == BASE)
    return write_report(config.out_dir, results, base, config.as_json())


def variants(config: AttentionConfig) -> list[Variant]:
    """The lines of the table; the base is always among them."""
    starts = {"regions start as the whole map": "whole", "regions stay at their anchors": "fixed"}
    left = {f"without {name}": tuple(c for c in CONSTRAINTS if c != name) for name in CONSTRAINTS}
    changes: dict[str, dict[str, dict[str, Any]]] = {
        "steps": {f"K = {k}": {"steps": k} for k in range(1, config.max_steps + 1) if k != STEPS},
        "start": {name: {"region_start": start} for name, start in starts.items()},
        "constraints": {name: {"constraints": rest} for name, rest in left.items()}
        | {"without any": {"localisation": 0.0}},
        "loss": {"softmax-square": {"loss": "softmax-square"}},
    }
    heads = [Variant("heads", f"{h}, {c}", h, c, {}) for h in HEADS for c in config.crops]
    listed = heads if "heads" in config.parts else []
    listed += [] if BASE in listed else [BASE]
    for part in config.parts:
        for name, change in changes.get(part, {}).items():
            listed.append(BASE._replace(part=part, name=name, changes=change))
    return listed


def select(config: AttentionConfig, head: str, crops: str) -> Setting:
    """The best learning rate and weight decay by validation mAP of the first seed."""
    rates, decays = config.pooling_lr, config.pooling_decay
    if head == ATTENTION:
        rates, decays = config.attention_lr, config.attention_decay
    base = train_config(config, "grid", f"{head}-{crops}", head=head, crops=crops)
    run = train(dataclasses.replace(base, lr=rates, weight_decay=decays, seed=(0,)))
    drop_losers(run, [])
    return choose([run], [Setting(lr, decay) for lr in rates for decay in decays])


def score(config: AttentionConfig, variant: Variant, setting: Setting, images: Images | None) -> Result:
    """Train a variant's seeds, and score each on the test split."""
    changes = {"head": variant.head, "crops": variant.crops, **variant.changes}
    base = train_config(config, variant.part, variant.name, **changes)
    seeds = tuple(range(config.seeds))
    run = train(dataclasses.replace(base, lr=(setting.lr,), weight_decay=(setting.weight_decay,), seed=seeds))
    folders = [head_folder(run, setting, seed) for seed in seeds]
    found = [score_unseen(folder, device=config.device) for folder in folders]
    scores = [multilabel.score(p.logits, p.labels, tuple(p.classes.tolist())) for p in found]
    figures = {"map": [s["map"] for s in scores]}
    figures |= {name: [s["at_half"][name] for s in scores] for name in ("cf1", "of1")}
    if variant.head == ATTENTION and images is not None:
        rates = [rate(look(open_run(folder, device=config.device)), images) for folder in folders]
        known = [r for r in rates if r is not None]
        figures |= {"hits": [r.hits for r in known], "chance": [r.chance for r in known]} if known else {}
    return Result(variant, setting, np.stack([p.logits for p in found]), found[0].labels, figures)


def train_config(config: AttentionConfig, *place: str, **changes: Any) -> TrainConfig:
    """The settings that all variants share, in a folder of the run's own, with these changes."""
    names = ("region_cells", "dropout", "localisation")
    attention = {"hidden": (config.hidden,), **{name: getattr(config, name) for name in names}}
    return TrainConfig(
        crop_cells=None if changes["crops"] == "full" else config.crop_cells,
        cache=config.cache,
        out=str(config.out_dir.joinpath("runs", *place)),
        epochs=config.epochs,
        batch=config.batch,
        device=config.device,
        resume=True,
        csra_lambda=0.1,  # as published
        **(attention if changes["head"] == ATTENTION else {}) | changes,
    )
