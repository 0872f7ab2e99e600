"""Stage two: train a stack of heads on a cache's training split. No trunk is loaded, no test split read.

cache → rows by class and seed → maps in memory or streamed → heads → run folder
"""

import hashlib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.datasets.holdout import draw_folds, share_drawn
from pipeline.device import float32_products, pick_device, products
from pipeline.errors import ConfigError, RunError
from pipeline.heads import HEADS
from pipeline.heads.base import FittedHead, Head, HeadSpec
from pipeline.maps.batches import place_maps
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part, not_learned, own_rows, split
from pipeline.maps.source import Source, check_views, drawn_views
from pipeline.maps.stored import scales_json
from pipeline.runs import leaderboard
from pipeline.runs.claim import IMMATERIAL, check, claim, finished, held, make_folder
from pipeline.runs.find_cache import TRAIN, places_of
from pipeline.runs.layout import CHECKPOINT
from pipeline.runs.local_cache import local_split
from pipeline.runs.members import GRID, begin, members, summaries
from pipeline.runs.stack import StackedHead, stack_of
from pipeline.runs.trackers import load_tracker
from pipeline.training.announce import WARNING, announce
from pipeline.training.beginning import Beginning, beginning
from pipeline.training.epochs import train_stack
from pipeline.training.fitting import fit
from pipeline.training.memory import advice, check_all_fit, check_budget, free_for_maps
from pipeline.training.optimizer import make_optimizer
from pipeline.training.trainer import Plan, Trainer, default_batch


def train(config: TrainConfig) -> Path:
    """Train every combination of learning rate, weight decay and seed at once; gives the run folder.

    Of a folder that has some of them, only the others are trained.

    Raises: CacheError; ConfigError when a flag doesn't suit the cache; RunError when the folder holds another
    run, an unfinished one and --resume isn't given, or one that trains now; when every head diverges.
    """
    config = config.resolved()
    if config.log:
        load_tracker(config.log)
    cache, run_dir = FeatureCache(local_split(config.cache, config.stage, TRAIN)), config.run_dir
    parts = train_part, val_part = parts_of(config, cache)
    images, maps = len(train_part.rows), len(train_part.rows) * drawn_views(cache)
    heads = members(config)
    stack = heads.to_train or stack_of(config)
    head, source = open_head(config, cache, [member.seed for member in stack] * config.blocks, maps)
    plan = Plan(config.epochs, config.batch or default_batch(images), images, config.data_seed)
    if fitted := isinstance(head, FittedHead):
        check_all_fit(config, source, maps + len(val_part.rows))
    else:
        check_budget(source, plan.batch, config.memory_budget_mb)
    begun = beginning(config, cache)
    described = describe(config, cache, train_part, begun)
    is_there = check(run_dir, described, (*IMMATERIAL, *GRID)) and finished(run_dir)
    if is_there and not (heads.apart and heads.to_train):
        print(f"{run_dir}: up to date")
        return run_dir
    make_folder(run_dir)
    with held(run_dir), float32_products(source.device, tf32=not fitted), advice(source, plan.batch, config):
        _refuse_unfinished(run_dir, config.resume)
        if not heads.to_train:  # but no leaderboard
            leaderboard.write(run_dir, summaries(run_dir))
            return run_dir
        begin(config, heads, described)
        for member in stack:
            claim(member.folder, {**described, **member.own_settings()})
        announce(config, head, source, plan, *parts)
        if unlearned := not_learned(train_part, config.classes or cache.classes):
            print(unlearned)
        if begun:
            _go_on_from(begun, head, source, val_part)
        else:
            source.fit_normaliser(train_part.rows)
        if isinstance(head, FittedHead):
            facts = {"group": config.group_name, "folds": config.folds}
            fit(head, source, *parts, run_dir, facts, config.log)
        else:
            trainer = make_trainer(head, source, plan, *parts, stack, config)
            train_stack(trainer, stack, source.normaliser, run_dir)
    return run_dir


def _refuse_unfinished(run_dir: Path, resume: bool) -> None:
    if (run_dir / CHECKPOINT).exists() and not resume:
        raise RunError(f"{run_dir}: holds an unfinished run; add --resume to go on, or give another --out")


def _go_on_from(begun: Beginning, head: Head, source: Source, val_part: Part) -> None:
    """Begin at the weights of a trained head, and say so."""
    begun.copy_to(head, source.normaliser)
    print(f"going on from {begun.folder}")
    if warning := begun.warning(source.cache, val_part):
        print(f"{WARNING}{warning}")


def parts_of(config: TrainConfig, cache: FeatureCache) -> tuple[Part, Part]:
    """The training part and the validation part of a cache. Raises: ConfigError."""
    own = own_rows(cache.identity)
    if config.folds and own:
        raise ConfigError(
            f"--folds: expected a dataset without validation images of its own, {cache.path} has {own:,}, "
            "which choose epochs and settings; leave it out"
        )
    train_part, val_part = split(
        cache.labels,
        cache.classes,
        classes=config.classes,
        per_class=config.per_class,
        val_fraction=0.0 if config.folds else config.val_fraction,
        data_seed=config.data_seed,
        own=own,
    )
    if config.folds:
        folds = draw_folds(train_part.labels, config.folds, config.data_seed)
        train_part = train_part._replace(folds=folds)
    return train_part, val_part


def describe(
    config: TrainConfig, cache: FeatureCache, train_part: Part, begun: Beginning | None
) -> dict[str, Any]:
    """What config.json says: the settings and all else that decides what is learned."""
    images = len(train_part.rows)
    return {
        **config.as_json(),
        "val_fraction": None if config.folds else share_drawn(config.val_fraction, own_rows(cache.identity)),
        "stage": "train",
        "init_sha256": begun.sha256 if begun else None,
        **places_of(config.cache, config.run_dir),
        "cache_key": cache.key,
        "cache_images": cache.images_digest,
        "dataset": cache.notes.get("dataset"),
        "cache_identity": {**cache.identity, "dtype": cache.dtype},
        **scales_json(cache.scales),
        "labels_sha256": hashlib.sha256(cache.labels.data).hexdigest(),
        "map_shape": list(cache.shape[2:]),
        "class_names": list(config.classes or cache.classes),
        "train_images": images,
        "train_maps": images * drawn_views(cache),
        "multi_label": cache.multi_label,
        "products": products(
            config.precision, pick_device(config.device), tf32=not HEADS[config.head].fitted
        ),
        "versions": {name: version(name) for name in ("torch", "numpy")},
    }


def open_head(config: TrainConfig, cache: FeatureCache, seeds: list[int], maps: int) -> tuple[Head, Source]:
    """The untrained heads, and the cache as they read it. Raises: ConfigError if they don't fit together."""
    device, dtype = pick_device(config.device), getattr(torch, config.precision)
    _, _, channels, height, width = cache.shape
    classes = len(config.classes or cache.classes)
    spec = HeadSpec(config, (channels, height, width), classes, seeds, maps, cache.multi_label)
    head = HEADS[config.head].load()(spec)
    check_views(cache, head.views)
    head.to(device, torch.float64 if dtype == torch.float64 else torch.float32)
    normaliser = Normaliser(channels).to(device)
    return head, Source(cache, head.views, head.prepare, normaliser, dtype, device, config.verify)


def make_trainer(
    head: Head,
    source: Source,
    plan: Plan,
    train_part: Part,
    val_part: Part,
    stack: list[StackedHead],
    config: TrainConfig,
) -> Trainer:
    """Bring the maps to where they will live, and make the optimizer.

    Neither a batch nor the order of batches depends on where that is.
    """
    free = free_for_maps(source, plan.batch, config.memory_budget_mb)
    train_maps = place_maps(source, train_part, drawn_views(source.cache), "training maps", free)
    val = place_maps(source, val_part, 1, "validation maps", free) if len(val_part.rows) else None
    optimizer = make_optimizer(
        config.optimizer,
        dict(head.named_parameters()),
        lr=[member.setting.lr for member in stack] * config.blocks,
        weight_decay=[member.setting.weight_decay for member in stack] * config.blocks,
    )
    return Trainer(head, optimizer, train_maps, train_maps if config.folds else val, plan, config.blocks - 1)
