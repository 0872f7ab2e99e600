"""Does ten-crop help, and by how much? Every head on the same maps, with the same effort for each.

A *variant* is a regime, a number of labelled images per class and a head. Its learning rate and weight decay
are chosen on validation images: by the mean over seeds where each seed draws its own images, by the first
seed where all images are used. Then one head per seed is scored on the test split.
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import torch
from joblib import Parallel, delayed

from cache import FeatureCache, split_path
from experiments.crops.caches import caches_of
from experiments.crops.config import CropsConfig
from experiments.crops.report import write_report
from experiments.crops.results import Result, Variant
from experiments.refusals import renamed, score_unseen
from pipeline.config import TrainConfig
from pipeline.datasets.holdout import select_classes
from pipeline.engines.processes import cores
from pipeline.heads import HEADS as TABLE
from pipeline.progress import Progress, report_to
from pipeline.runs.leaderboard import choose, drop_losers, head_folder
from pipeline.runs.stack import Setting
from pipeline.training.stage import train

POOLED = ("linear", "logistic")
"""A linear layer on the average of the map: trained as the other heads are, and solved to convergence."""
HEADS = (*POOLED, "center", "five", "ten", "ten-image", "full")
"""The pooled ones, and FullNet on each kind of crops."""
REDRAW_UP_TO = 10_000
"""With no more images than this, every seed draws its own training and validation images."""


def ablate(config: CropsConfig) -> Path:
    """Score every variant and write OUT/ablation.json, .md and .png; gives the first.

    Raises: whatever the stages raise.
    """
    variants = [variant for regime in config.regime for variant in variants_of(config, regime)]
    jobs = config.jobs or cores()
    print(f"ablation: {len(variants)} variants, {config.seeds} seeds, {jobs} at a time, into {config.out}")
    made: list[Result] = []
    with Progress("ablation", len(variants), "variants") as progress:
        parallel = Parallel(n_jobs=jobs, return_as="generator")
        for result in parallel(delayed(score)(config, variant, jobs) for variant in variants):
            made += [result] if result is not None else []  # as joblib is typed
            progress.advance()
    return write_report(Path(config.out), made, config.as_json())


def variants_of(config: CropsConfig, regime: str) -> Iterator[Variant]:
    """Make a regime's caches if need be, and list its variants.

    Raises: whatever the stages raise; ConfigError when images have several labels each.
    """
    for maps in caches_of(config, regime):
        cache = FeatureCache(split_path(maps.folder, "train"))
        everything = len(select_classes(cache.labels, cache.classes, maps.classes)[0])
        classes = len(maps.classes or cache.classes)
        has_mirrors = cache.identity.get("views") == "mirror"
        for per_class in config.per_class if regime in ("transfer", "trunk") else (0,):
            images = per_class * classes or everything
            for head in HEADS:
                if has_mirrors or head != "ten-image":
                    yield Variant(maps, per_class, head, images, images // classes)


def score(config: CropsConfig, variant: Variant, jobs: int) -> Result:
    """Train a variant's heads, and score one per seed on the test split."""
    torch.set_num_threads(max(1, cores() // jobs))
    if jobs > 1:
        report_to()  # nobody: this is one of several processes
    base = dataclasses.replace(train_config(config, variant), lr=config.lr, weight_decay=config.weight_decay)
    base, fitted = base.resolved(), TABLE[base.head].fitted
    grid = [Setting(lr, decay) for lr in base.lr or () for decay in base.weight_decay]
    seeds = range(config.seeds)
    if variant.images <= REDRAW_UP_TO:
        runs = [train_seeds(base, f"grid-{seed}", (seed,), data_seed=seed) for seed in seeds]
        best = choose(runs, grid)
        heads = [head_folder(run, best, seed) for run, seed in zip(runs, seeds, strict=True)]
    else:
        runs = [train_seeds(base, "grid-0", (0,))]
        best = choose(runs, grid)
        heads = [head_folder(runs[0], best, 0)]
        if config.seeds > 1 and not fitted:  # seeds make no difference to a fitted head
            chosen = dataclasses.replace(base, lr=(best.lr,), weight_decay=(best.weight_decay,))
            rest = train_seeds(chosen, "seeds-0", tuple(seeds)[1:])
            heads += [head_folder(rest, best, seed) for seed in seeds[1:]]
    correct = [score_unseen(folder, device=config.device).correct for folder in heads]
    for run in runs:
        drop_losers(run, heads)
    return Result(variant, None if fitted else best, correct)


def train_config(config: CropsConfig, variant: Variant) -> TrainConfig:
    """The settings that all heads of a variant share."""
    val_fraction = 0.1 if variant.images > REDRAW_UP_TO else 0.2
    steps = -(-round(variant.images * (1 - val_fraction)) // config.batch)
    place = (*variant.maps.place, str(variant.per_class or "all"), variant.head)
    return TrainConfig(
        cache=str(variant.maps.folder),
        out=str(Path(config.out).joinpath("runs", *place)),
        head=variant.head if variant.head in POOLED else "fullnet",
        crops="ten" if variant.head in POOLED else variant.head,  # type: ignore[arg-type]
        hidden=config.hidden,
        classes=variant.maps.classes,
        per_class=variant.per_class or None,
        val_fraction=val_fraction,
        batch=config.batch,
        epochs=max(config.epochs, -(-config.min_steps // steps)),
        precision=config.precision,
        device=config.device,
        resume=True,
    )


def train_seeds(base: TrainConfig, name: str, seed: tuple[int, ...], data_seed: int = 0) -> Path:
    """Train every setting with these seeds in one pass; gives the run folder."""
    with renamed({"--cache": "--out"}):
        return train(dataclasses.replace(base, out=f"{base.out}/{name}", seed=seed, data_seed=data_seed))
