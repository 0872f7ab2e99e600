"""Stage two: train a stack of heads on a cache's training split. No trunk is loaded, no test split read.

cache → rows by class and seed → maps in memory or streamed → heads → run folder
"""

import hashlib
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cache import FeatureCache
from pipeline.config import TrainConfig
from pipeline.device import free_bytes, pick_device
from pipeline.errors import RunError
from pipeline.files import append_line, keep_lines
from pipeline.heads import HEADS
from pipeline.heads.base import FittedHead, HeadSpec
from pipeline.maps.batches import Maps, place_maps
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part, split
from pipeline.maps.source import Source, check_views, drawn_views
from pipeline.runs.claim import claim, held
from pipeline.runs.folder import CHECKPOINT, METRICS
from pipeline.runs.score import score_of
from pipeline.runs.stack import StackedHead, stack_of
from pipeline.runs.tensors import shape_text
from pipeline.training.fitting import check_memory, fit
from pipeline.training.optimizer import make_optimizer
from pipeline.training.results import write_results
from pipeline.training.trainer import Plan, Trainer

CHECKPOINT_SECONDS = 30.0
"""How much training a kill may cost."""


def train(config: TrainConfig) -> Path:
    """Train every combination of learning rate, weight decay and seed at once; gives the run folder.

    Raises: CacheError; ConfigError when a flag doesn't suit the cache; RunError when the folder holds another
    run, an unfinished one and --resume isn't given, or one that trains now; when every head diverges.
    """
    config = config.resolved()
    cache, run_dir = FeatureCache(Path(config.cache) / "train.h5"), config.run_dir
    train_part, val_part = split(cache.labels, cache.classes, config)
    stack = stack_of(config)
    examples = len(train_part.rows) * drawn_views(cache)
    source = open_source(config, cache, [head.seed for head in stack], examples)
    if isinstance(source.head, FittedHead):
        check_memory(config, source, examples + len(val_part.rows))
    if claim(run_dir, describe(config, cache, train_part)):
        print(f"{run_dir}: up to date")
        return run_dir
    with held(run_dir):
        if (run_dir / CHECKPOINT).exists() and not config.resume:
            raise RunError(
                f"{run_dir}: holds an unfinished run; add --resume to go on, or give another --out"
            )
        for head in stack:
            claim(head.folder, describe(head.config, cache, train_part))
        announce(config, source, train_part, val_part)
        fill(config, source, train_part, val_part, stack)
    return run_dir


def fill(
    config: TrainConfig, source: Source, train_part: Part, val_part: Part, stack: list[StackedHead]
) -> None:
    """Train, or compute, the heads into their folders."""
    source.fit_normaliser(train_part.rows)
    if isinstance(source.head, FittedHead):
        fit(config, source, source.head, train_part, val_part)
        return
    trainer = make_trainer(config, source, train_part, val_part, stack)
    checkpoint = config.run_dir / CHECKPOINT
    started = time.perf_counter()
    images = run_epochs(trainer, stack, checkpoint)
    write_results(trainer, source, stack, config.run_dir, images, time.perf_counter() - started)
    checkpoint.unlink(missing_ok=True)


def open_source(config: TrainConfig, cache: FeatureCache, seeds: list[int], examples: int) -> Source:
    """The cache and the untrained heads on it. Raises: ConfigError when the head doesn't suit the maps."""
    device, dtype = pick_device(config.device), getattr(torch, config.precision)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32
    classes = config.classes or cache.classes
    _, _, channels, height, width = cache.shape
    spec = HeadSpec(config, (channels, height, width), len(classes), seeds, examples, cache.labels.ndim > 1)
    head = HEADS[config.head].load()(spec)
    check_views(cache, head)
    head.to(device, torch.float64 if dtype == torch.float64 else torch.float32)
    return Source(cache, head, Normaliser(channels).to(device), dtype, device, config.verify)


def describe(config: TrainConfig, cache: FeatureCache, train_part: Part) -> dict[str, Any]:
    """config.json: the settings and all else that decides what is learned."""
    images, drawn = len(train_part.rows), drawn_views(cache)
    return {
        **config.as_json(),
        "stage": "train",
        "cache_key": cache.key,
        "cache_identity": {**cache.identity, "dtype": cache.dtype},
        "labels_sha256": hashlib.sha256(cache.labels.astype("<i8").tobytes()).hexdigest(),
        "map_shape": list(cache.shape[2:]),
        "class_names": list(config.classes or cache.classes),
        "train_images": images,
        "train_maps": images * drawn,
        "multi_label": cache.labels.ndim > 1,
        "versions": {name: version(name) for name in ("torch", "numpy")},
    }


def announce(config: TrainConfig, source: Source, train_part: Part, val_part: Part) -> None:
    """Print what will be done."""
    cache, heads, plan = source.cache, len(source.head.seeds), Plan.of(config, len(train_part.rows))
    parameters = sum(p[0].numel() for p in source.head.parameters())
    images, drawn = len(train_part.rows), source.drawn
    print(
        f"{cache.path}: {shape_text(cache.shape[2:])} {cache.dtype}, key {cache.key[:12]}; "
        f"{images:,} images{f' × {drawn} views' * (drawn > 1)} to train on, "
        f"{len(val_part.rows):,} to validate"
    )
    if isinstance(source.head, FittedHead):
        print(f"1 head: {config.head}, computed from all {images * drawn:,} maps at once on {source.device}")
        return
    print(
        f"{heads} {'head' if heads == 1 else 'heads in one pass'}: {config.head}, {parameters:,} parameters "
        f"each; {config.epochs} epochs in batches of {plan.batch}, {config.precision} on {source.device}"
    )


def make_trainer(
    config: TrainConfig, source: Source, train_part: Part, val_part: Part, stack: list[StackedHead]
) -> Trainer:
    """Bring the maps to where they will live, and make the optimizer."""
    plan, drawn = Plan.of(config, len(train_part.rows)), source.drawn
    limit, working = (config.memory_budget_mb or 0) << 20, source.working_bytes(plan.batch)
    on_device = max(0, (limit or free_bytes(source.device) // 2) - working)
    in_ram = max(0, (limit or free_bytes(torch.device("cpu")) // 2) - working)
    examples = len(val_part.rows) + len(train_part.rows) * drawn

    def place(part: Part, drawn: int, name: str) -> Maps:
        share = len(part.rows) * drawn / examples
        return place_maps(source, part, drawn, name, int(share * on_device), int(share * in_ram))

    train_maps = place(train_part, drawn, "training maps")
    val = place(val_part, 1, "validation maps") if len(val_part.rows) else None
    optimizer = make_optimizer(
        config.optimizer,
        dict(source.head.named_parameters()),
        lr=[head.setting.lr for head in stack],
        weight_decay=[head.setting.weight_decay for head in stack],
    )
    return Trainer(source.head, optimizer, train_maps, val, plan, score_of(train_part.labels))


def run_epochs(trainer: Trainer, stack: list[StackedHead], checkpoint: Path) -> int:
    """Train to the end, from the checkpoint if there is one; gives how many images the heads were shown.

    Raises: RunError when every head diverges.
    """
    first = trainer.load(checkpoint) if checkpoint.exists() else 0
    logs = [head.folder / METRICS for head in stack]
    for log in logs:
        keep_lines(log, first)
    plan, saved = trainer.plan, time.perf_counter()
    total, done = plan.epochs * plan.rows, first * plan.rows
    with tqdm(
        total=total, initial=done, desc="training", unit=" images", unit_scale=True, disable=None
    ) as progress:
        for epoch in range(first, plan.epochs):
            lines = trainer.epoch(epoch, progress.update)
            for log, line in zip(logs, lines, strict=True):
                append_line(log, line)
            if not any(np.isfinite(line["train_loss"]) for line in lines):
                raise RunError(
                    f"{logs[0].parent}: the loss is not finite after {epoch + 1} of {plan.epochs} epochs; "
                    "give a smaller --lr and another --out"
                )
            progress.set_postfix(best=f"{trainer.best_score.max():.2f} %")
            if time.perf_counter() - saved > CHECKPOINT_SECONDS:
                trainer.save(checkpoint, epoch + 1)
                saved = time.perf_counter()
    return total - done
