"""Does ten-crop help, and by how much? Every head on the same maps, with the same effort for each.

A *cell* is a regime, a number of labelled images per class and a head. Its learning rate and weight decay are
chosen on validation images, by the mean over the seeds where each seed draws its own images, by the first
seed where all images are used. Then one head per seed is scored on the test split.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import Parallel, delayed

from cache import FeatureCache
from experiments.crops.config import AblateConfig
from experiments.crops.report import Result, write_report
from pipeline.config import ExtractConfig, PretrainConfig, TrainConfig
from pipeline.datasets.base import open_dataset
from pipeline.datasets.holdout import select_classes
from pipeline.errors import ConfigError
from pipeline.evaluation.predict import predict
from pipeline.extraction.stage import extract
from pipeline.pretraining.stage import pretrain
from pipeline.runs.selection import Setting, choose, drop_losers, head_folder
from pipeline.training.stage import train

HEADS = ("linear", "center", "five", "ten", "ten-image", "full")
"""Global average pooling with a linear layer; FullNet on each kind of crops."""
REDRAW_UP_TO = 10_000
"""With no more images than this, every seed draws its own training and validation images."""


class Cell(NamedTuple):
    """What one line of the table stands for."""

    regime: str
    per_class: int
    head: str
    cache: Path
    classes: tuple[str, ...]
    images: int
    """Labelled images, validation part included."""

    @property
    def folder(self) -> Path:
        return Path(self.regime) / str(self.per_class or "all") / self.head


def ablate(config: AblateConfig) -> Path:
    """Fill every cell and write OUT/ablation.json, .md and .png; gives the first.

    Raises: whatever the stages raise.
    """
    cells = [cell for regime in config.regime for cell in regime_cells(config, regime)]
    jobs = config.jobs or os.cpu_count() or 1
    print(f"ablation: {len(cells)} cells, {config.seeds} seeds, {jobs} at a time, into {config.out}")
    filled = Parallel(n_jobs=jobs)(delayed(fill)(config, cell, jobs) for cell in cells)
    results = [result for result in filled if result is not None]
    return write_report(Path(config.out), results, config.as_json())


def regime_cells(config: AblateConfig, regime: str) -> Iterator[Cell]:
    """Make a regime's cache if need be, and list its cells.

    Raises: whatever the stages raise, and ConfigError when images have several labels each.
    """
    cache, classes = Path(config.out) / "caches" / regime, ()
    options: dict[str, Any] = {"views": "mirror", "device": config.device, "workers": config.workers}
    options |= {"cache": str(cache), "dataset": "digits" if regime == "digits" else config.dataset}
    if regime != "digits" and open_dataset(config.dataset)["train"].labels.ndim > 1:
        raise ConfigError(
            f"--dataset: expected images with one label each, {config.dataset} has several; "
            "ablate_attention.py compares heads on such"
        )
    if regime == "transfer":
        known, classes = halves(open_dataset(config.dataset)["train"].classes, config.trunk_classes)
        trunk = PretrainConfig(
            dataset=config.dataset,
            classes=known,
            out=config.trunk_out,
            epochs=config.pretrain_epochs,
            mirror_maps=config.mirror_maps,
            seed=config.trunk_seed,
            device=config.device,
            workers=config.workers,
        )
        options["weights"] = str(pretrain(trunk))
    extract(ExtractConfig(**options))
    train_cache = FeatureCache(cache / "train.h5")
    everything = len(select_classes(train_cache.labels, train_cache.classes, classes)[0])
    for per_class in config.per_class if regime == "transfer" else (0,):
        images = per_class * len(classes) or everything
        for head in HEADS:
            yield Cell(regime, per_class, head, cache, classes, images)


def halves(names: Sequence[str], asked: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes of the trunk of `transfer`, and those of the heads. Raises: ConfigError."""
    known = tuple(asked or names[: len(names) // 2])
    others = tuple(name for name in names if name not in known)
    if not others or len(known) + len(others) != len(names):
        raise ConfigError(
            f"--trunk-classes: expected some of {', '.join(names)}, but not all, found {', '.join(known)}"
        )
    return known, others


def fill(config: AblateConfig, cell: Cell, jobs: int) -> Result:
    """Train and score a cell's heads."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // jobs))
    grid = [Setting(lr, decay) for lr in config.lr for decay in config.weight_decay]
    base = train_config(config, cell)
    seeds = range(config.seeds)
    if cell.images <= REDRAW_UP_TO:
        sweeps = [sweep(base, "grid", config, seed=(s,), data_seed=s) for s in seeds]
        best = choose(sweeps, grid)
        heads = [head_folder(folder, best, s) for folder, s in zip(sweeps, seeds, strict=True)]
    else:
        first = sweep(base, "grid", config, seed=(0,), data_seed=0)
        best = choose([first], grid)
        heads = [head_folder(first, best, 0)]
        if config.seeds > 1:
            chosen = dataclasses.replace(config, lr=(best.lr,), weight_decay=(best.weight_decay,))
            rest = sweep(base, "seeds", chosen, seed=tuple(seeds)[1:], data_seed=0)
            heads += [head_folder(rest, best, s) for s in seeds[1:]]
        sweeps = [first]
    correct = [predict(folder, device=config.device).correct for folder in heads]
    for folder in sweeps:
        drop_losers(folder, heads)
    per_class = cell.images // (len(cell.classes) or len(FeatureCache(cell.cache / "train.h5").classes))
    return Result(cell.regime, cell.per_class, per_class, cell.head, *best, correct)


def train_config(config: AblateConfig, cell: Cell) -> TrainConfig:
    """The settings that a cell's sweeps share."""
    batch = 512
    val_fraction = 0.1 if cell.images > REDRAW_UP_TO else 0.2
    steps = -(-round(cell.images * (1 - val_fraction)) // batch)
    return TrainConfig(
        cache=str(cell.cache),
        out=str(Path(config.out) / "runs" / cell.folder),
        head="linear" if cell.head == "linear" else "fullnet",
        crops="ten" if cell.head == "linear" else cell.head,  # type: ignore[arg-type]
        hidden=config.hidden,
        classes=cell.classes,
        per_class=cell.per_class or None,
        val_fraction=val_fraction,
        batch=batch,
        epochs=max(config.epochs, -(-config.min_steps // steps)),
        precision=config.precision,
        device=config.device,
        resume=True,
    )


def sweep(base: TrainConfig, name: str, config: AblateConfig, seed: tuple[int, ...], data_seed: int) -> Path:
    """Train every setting of `config` with these seeds in one pass; gives the sweep's folder."""
    out = f"{base.out}/{name}-{data_seed}"
    fields = {"out": out, "seed": seed, "data_seed": data_seed}
    return train(dataclasses.replace(base, lr=config.lr, weight_decay=config.weight_decay, **fields))
