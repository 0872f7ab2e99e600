"""The caches of each regime, made where they are not there yet."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cache import FeatureCache, split_path
from experiments.crops.config import CropsConfig
from experiments.crops.field import Field, field_of
from experiments.crops.pooled import pool
from experiments.refusals import renamed
from pipeline.config import ExtractConfig, PretrainConfig
from pipeline.datasets import DATASETS
from pipeline.datasets.base import open_dataset
from pipeline.errors import ConfigError
from pipeline.extraction.stage import extract
from pipeline.pretraining.network import image_digests, images_digest, open_split
from pipeline.pretraining.score import read_settings
from pipeline.pretraining.stage import pretrain
from pipeline.runs.layout import read_config
from pipeline.wording import slug, some


@dataclasses.dataclass(frozen=True)
class Maps:
    """A cache that heads are compared on."""

    regime: str
    folder: Path
    classes: tuple[str, ...] = ()
    """Those of the heads; empty: all."""
    trunk: str = ""
    """In the regime `trunk`, the trunk and the images' side."""
    field: Field | None = None
    """There, what a cell sees of the picture."""

    @property
    def place(self) -> tuple[str, ...]:
        """The folders of its runs below OUT/runs."""
        return (self.regime, slug(self.trunk)) if self.trunk else (self.regime,)


def caches_of(config: CropsConfig, regime: str) -> Iterator[Maps]:
    """Make the caches of a regime, one for each trunk and image size in `trunk`, else a single one.

    Raises: whatever the stages raise; ConfigError when images have several labels each.
    """
    if regime != "digits" and DATASETS[config.dataset.partition(":")[0]].multi_label:
        raise ConfigError(
            f"--dataset: expected images with one label each, {config.dataset} has several; "
            "python -m experiments.attention compares heads on such"
        )
    if regime == "trunk":
        for trunk in config.trunk:
            for image_px in config.image_px or (None,):
                yield from _of_trunk(config, trunk, image_px)
        return
    folder, classes = Path(config.out) / "caches" / regime, ()
    options: dict[str, Any] = {"dataset": "digits" if regime == "digits" else config.dataset}
    if regime == "transfer":
        names = open_dataset(config.dataset)["train"].classes
        asked = _trained_on(config) if config.trunk_run else config.trunk_classes
        known, classes = halves(names, asked)
        run = config.trunk_run
        options["weights"] = f"{run}/trunk.safetensors" if run else str(_pretrained(config, known))
    _extract(config, folder, views="mirror", **options)
    yield Maps(regime, folder, classes)


def halves(names: Sequence[str], asked: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes of the trunk of `transfer`, and those of the heads. Raises: ConfigError."""
    known = tuple(asked or names[: len(names) // 2])
    others = tuple(name for name in names if name not in known)
    if not others or len(known) + len(others) != len(names):
        raise ConfigError(
            f"--trunk-classes: expected some of {some(names, 20)}, but not all, found {some(known, 20)}"
        )
    return known, others


def _of_trunk(config: CropsConfig, trunk: str, image_px: int | None) -> Iterator[Maps]:
    size = f"{image_px}px" if image_px else ""
    made = Path(config.out) / "caches" / slug("trunk", trunk, size)
    for folder in _extract(config, made, dataset=config.dataset, trunk=trunk, image_px=image_px):
        layer = (
            f"@{FeatureCache(split_path(folder, 'train')).identity['trunk']['layer']}"
            if folder != made
            else ""
        )
        name = f"{trunk.rpartition('@')[0]}{layer}" if layer else trunk
        pooled = pool(folder, config.map_cells) if config.map_cells else folder
        named = f"{name}, {image_px} px" if image_px else name
        yield Maps("trunk", pooled, trunk=named, field=field_of(config.dataset, pooled))


def _extract(config: CropsConfig, folder: Path, **options: Any) -> tuple[Path, ...]:
    """Make a cache, or one for each layer of a trunk; gives their folders."""
    with renamed({"--cache": "--out", "--weights": "--trunk-run" if config.trunk_run else "--trunk-out"}):
        asked = ExtractConfig(cache=str(folder), device=config.device, decoders=config.decoders, **options)
        extract(asked)
        return asked.cache_dirs


def _trained_on(config: CropsConfig) -> tuple[str, ...]:
    """The classes of --trunk-run. Raises: RunError; DataError; ConfigError where it has others than those
    asked for, or was trained on other images than --dataset's, among which a head's test images may be."""
    run = Path(str(config.trunk_run))
    trained = read_settings(run)
    if not trained.classes or config.trunk_classes not in ((), trained.classes):
        wanted = some(config.trunk_classes, 20) or "some classes, not all"
        raise ConfigError(
            f"--trunk-run: {run}: expected a trunk trained on {wanted}, found "
            f"{some(trained.classes, 20) or 'one trained on all'}; train one with pretrain_trunk.py --classes"
        )
    told = read_config(run, "pretrain")
    if told.get("weights_sha256"):
        raise ConfigError(
            f"--trunk-run: {run}: expected a trunk that began at random weights, found one that began at "
            f"{trained.weights}, which may know the heads' classes; train one without --weights"
        )
    with renamed({"--classes": "--trunk-run"}):
        split, *_ = open_split(dataclasses.replace(trained, dataset=config.dataset), "train")
    digest = images_digest(image_digests(split, config.decoders))
    if digest != told.get("dataset_images"):
        raise ConfigError(
            f"--trunk-run: {run}: expected a trunk trained on images of --dataset {config.dataset}, found "
            f"one trained on others, of {trained.dataset}; name the dataset of both, or train another trunk"
        )
    return trained.classes


def _pretrained(config: CropsConfig, classes: tuple[str, ...]) -> Path:
    with renamed({"--out": "--trunk-out", "--epochs": "--pretrain-epochs", "--seed": "--trunk-seed"}):
        return pretrain(
            PretrainConfig(
                dataset=config.dataset,
                classes=classes,
                out=config.trunk_out,
                epochs=config.pretrain_epochs,
                mirror_maps=config.mirror_maps,
                seed=config.trunk_seed,
                device=config.device,
                decoders=config.decoders,
            )
        )
