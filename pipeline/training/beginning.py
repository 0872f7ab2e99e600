"""Where training begins, if not at random weights: at a trained head, for other maps of its kind (--init).

RUN/head.safetensors → the weights of every head of a stack, and the means and scales of the maps
"""

import dataclasses
import hashlib
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from cache import FeatureCache
from cache.identity import differences
from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.heads import HEADS
from pipeline.heads.base import Head
from pipeline.heads.settings import OF_LEARNING, HeadSettings
from pipeline.maps.contents import content_keys
from pipeline.maps.likeness import comparable
from pipeline.maps.normaliser import Normaliser
from pipeline.maps.parts import Part
from pipeline.runs.find_cache import find_cache
from pipeline.runs.find_run import find_run
from pipeline.runs.folder import LoadedHead, load_head
from pipeline.runs.given import rows_learned
from pipeline.runs.layout import HEAD, read_config
from pipeline.runs.tensors import read_tensors, shape_text
from pipeline.wording import flag, shown, some


class Beginning(NamedTuple):
    """A trained head that others go on from."""

    folder: Path
    loaded: LoadedHead
    sha256: str
    """Of its weights' file."""

    def copy_to(self, head: Head, normaliser: Normaliser) -> None:
        """Give every head of a stack these weights, and the normaliser these means and scales."""
        stored, _ = read_tensors(self.folder / HEAD)  # in the precision of its training
        with torch.no_grad():
            for name, parameter in head.named_parameters():
                parameter.copy_(stored[f"head.{name}"].expand_as(parameter))
        normaliser.load_state_dict(self.loaded.normaliser.state_dict())

    def warning(self, cache: FeatureCache, val_part: Part) -> str:
        """A line about validation images that the head learned from, whose score is too high; empty when
        there are none."""
        if not len(val_part.rows):
            return ""
        training = find_cache(self.folder, str(cache.path.parent)).training
        if training is None:
            return (
                f"not checked whether {self.folder} learned from the validation images, by which the best "
                "epoch is chosen: its training cache isn't found"
            )
        labels = str(read_config(self.folder, "train").get("labels_sha256"))
        learned = content_keys(training, rows_learned(self.loaded.config, labels, training))
        seen = int(np.isin(content_keys(cache, val_part.rows), learned).sum())
        if not seen:
            return ""
        return (
            f"{self.folder} learned from {seen:,} of the {len(val_part.rows):,} validation images: their "
            "score is too high, and compares with no other run's; evaluate.py scores test images"
        )


def beginning(config: TrainConfig, cache: FeatureCache) -> Beginning | None:
    """The head that --init names, if it does.

    Raises: RunError, WeightsError when there is none; ConfigError when it is another head, of other classes
    or for other maps, or with --folds.
    """
    if not config.init or HEADS[config.head].fitted:
        return None
    if config.folds:
        raise ConfigError(
            "--folds: expected heads that begin at random weights, found --init, whose head has seen the "
            "images of every fold; leave one of them out"
        )
    folder = find_run(Path(config.init))
    loaded = load_head(folder)
    described = read_config(folder, "train")
    for what, then, now in _facts(config, cache, loaded, bool(described.get("multi_label"))):
        if then != now:
            raise ConfigError(
                f"--init: expected a head {what} {_text(now)}, found {_text(then)} in {folder}; name another "
                "run, or train without --init"
            )
    _refuse_other_classes(folder, loaded.classes, tuple(config.classes or cache.classes))
    identity = described.get("cache_identity")
    then = comparable(identity if isinstance(identity, dict) else {})
    if fields := differences(then, comparable({**cache.identity, "dtype": cache.dtype})):
        raise ConfigError(
            f"--init: {folder} was trained on maps made otherwise than {cache.path}: "
            f"{'; '.join(fields[:8])}; give a --cache made like its own, or train without --init"
        )
    return Beginning(folder, loaded, hashlib.sha256((folder / HEAD).read_bytes()).hexdigest())


def _facts(
    config: TrainConfig, cache: FeatureCache, loaded: LoadedHead, multi_label: bool
) -> Iterator[tuple[str, object, object]]:
    """What a head and those that go on from it must share: what it is, then and now."""
    yield "of the kind", loaded.config.head, config.head
    yield "for maps of", shape_text(loaded.map_shape), shape_text(cache.shape[2:])
    kinds = ("one label for each image", "several labels for each image")
    yield "for", kinds[multi_label], kinds[cache.multi_label]
    read = HEADS[config.head].reads - OF_LEARNING
    for name in (f.name for f in dataclasses.fields(HeadSettings) if f.name in read):
        yield f"with {flag(name)}", getattr(loaded.config, name), getattr(config, name)


def _refuse_other_classes(folder: Path, then: Sequence[str], now: Sequence[str]) -> None:
    """Raises: ConfigError naming the classes that only one of two lists has."""
    if tuple(then) == tuple(now):
        return
    pairs = (("new", set(now) - set(then)), ("gone", set(then) - set(now)))
    told = [f"{some(map(shown, sorted(names)))} {word}" for word, names in pairs if names]
    without = "train without --init"
    raise ConfigError(
        f"--init: expected a head of {len(now)} classes, found one of {len(then)} in {folder}: "
        f"{' and '.join(told) or 'the same in another order'}; "
        + (without if set(then) - set(now) else f"--classes {shlex.join(then)} has its own, or {without}")
    )


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
