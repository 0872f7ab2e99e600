"""What is said before heads train: of which maps, how large they are, and whether that is too large."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from pipeline.config import TrainConfig
from pipeline.device import products
from pipeline.heads import HEADS
from pipeline.heads.base import FittedHead, Head, HeadSpec
from pipeline.heads.settings import HeadSettings, unread_by
from pipeline.maps.parts import Part
from pipeline.maps.source import Source, drawn_views
from pipeline.runs.tensors import shape_text
from pipeline.training.memory import memory_for_all
from pipeline.training.step import why_live
from pipeline.training.trainer import Plan
from pipeline.wording import flag

MANY = 100
"""Weights for each training example from which a head is warned of."""
STATES = {"sgd": 1, "adam": 2}
"""Numbers that an optimizer keeps for each weight."""
NARROW = 8
"""Hidden layers of fewer units are not worth a try."""
WARNING = "warning: "


def announce(
    config: TrainConfig, head: Head, source: Source, plan: Plan, train_part: Part, val_part: Part
) -> None:
    """Print what will be done, what it takes, and a warning where heads have far too many weights."""
    cache, images, drawn = source.cache, len(train_part.rows), drawn_views(source.cache)
    classes = len(config.classes or cache.classes)
    print(
        f"{cache.path}: {shape_text(cache.shape[2:])} {cache.dtype}, key {cache.key[:12]}; "
        f"{images:,} images{f' × {drawn} views' * (drawn > 1)} to train on, "
        f"{_validated(train_part, val_part)}"
    )
    if isinstance(head, FittedHead):
        needed = memory_for_all(source, images * drawn + len(val_part.rows), bool(config.folds))
        print(
            f"1 head: {config.head}, computed from all {images * drawn:,} maps at once on {source.device}, "
            f"in about {_size(needed)} of memory"
        )
        return
    heads = "1 head" if len(head.seeds) == 1 else f"{len(head.seeds)} heads in one pass"
    parameters = weights_of(head)
    precision = products(str(source.dtype).split(".")[1], source.device, tf32=True)
    print(
        f"{heads}: {config.head}, {parameters:,} parameters each; {plan.epochs} epochs in batches of "
        f"{plan.batch}, {precision} on {source.device}"
    )
    stored = sum(p.nbytes for p in head.parameters())
    kept = 2 + STATES[config.optimizer]  # the weights, the best so far, the optimizer's
    print(
        f"beside the maps: about {_size((kept + 1) * stored)} of memory, gradients included; on the "
        f"disk {_size(stored // config.blocks)}, and {_size(kept * stored)} for a checkpoint while it goes on"
    )
    spec = HeadSpec(config, cache.shape[2:], classes, [0], images * drawn, cache.multi_label)
    if parameters > MANY * spec.examples:
        print(f"{WARNING}{too_many(config.head, spec, parameters)}")
    if live := why_live(head, source.device):
        print(f"{WARNING}{live}")
    if "crops" in HEADS[config.head].reads and (alike := too_alike(spec)):
        print(f"{WARNING}{alike}")


def _validated(train_part: Part, val_part: Part) -> str:
    """What is validated on, in words."""
    if train_part.folds is None:
        return f"{len(val_part.rows):,} to validate"
    scored = int((train_part.folds >= 0).sum())
    alone = len(train_part.folds) - scored
    without = f"; {alone:,} that {'is' if alone == 1 else 'are'} alone in a class in none" if alone else ""
    return f"{scored:,} of them to validate in {train_part.folds.max() + 1} folds{without}"


def weights_of(head: Head) -> int:
    """The number of weights, biases included, of one head of a stack."""
    return sum(p[0].numel() for p in head.parameters())


def too_many(name: str, spec: HeadSpec, weights: int) -> str:
    """A warning of heads that are too large for their examples, with flags that make smaller ones."""
    smaller = [*_narrower(name, spec), *_fewer_cells(name, spec), _pooled(name, spec)]
    share = f"{weights / spec.examples:,.0f} for each of {spec.examples:,} training examples"
    return (
        f"{name} has {weights:,} weights on maps of {shape_text(spec.map_shape)}, {share}, and may learn "
        f"them by heart; compare it with {', or '.join(smaller)}"
    )


def too_alike(spec: HeadSpec) -> str:
    """A warning of crops that are the same cells, as on maps of a cell or two; empty where all differ."""
    crops = spec.crops()
    kinds = {crop._replace(mirrored=crop.mirrored and crop.box.width > 1) for crop in crops}
    height, width = crops[0].box[2:]
    return (
        f"of {len(crops)} crops of {height}×{width} cells only {len(kinds)} differ on maps of "
        f"{shape_text(spec.map_shape)}; compare with --crops full, or with maps of a larger --image-px"
        if len(kinds) < len(crops)
        else ""
    )


def _narrower(name: str, spec: HeadSpec) -> Iterator[str]:
    """The widest hidden layers, a power of two, with which a head isn't too large."""
    layers, width = len(spec.settings.hidden), 1
    while width < min(spec.settings.hidden) and _fits(name, spec, hidden=(width,) * layers):
        width *= 2
    if "hidden" in HEADS[name].reads and width // 2 >= NARROW:
        yield " ".join(["--hidden", *[str(width // 2)] * layers])


def _fewer_cells(name: str, spec: HeadSpec) -> Iterator[str]:
    """The largest crops with which a head that has weights for every cell isn't too large."""
    crops = spec.settings.crops
    others = "ten" if crops == "full" else crops
    box, side = spec.crops()[0].box, 0
    if name == "fullnet":
        while side + 1 < min(box[2:]) and _fits(name, spec, crops=others, crop_cells=side + 1):
            side += 1
    if side:
        yield ("--crops ten " if crops == "full" else "") + f"--crop-cells {side}"


def _pooled(name: str, spec: HeadSpec) -> str:
    """Heads on pooled maps, and the flags that they don't read."""
    if name == "gap" or HEADS[name].pooled or not _fits("gap", spec):
        return "--head logistic and none of the flags that it doesn't read"
    defaults = {field.name: field.default for field in dataclasses.fields(HeadSettings)}
    unread = unread_by({"gap"}) & HEADS[name].reads & defaults.keys()
    given = sorted(flag(n) for n in unread if getattr(spec.settings, n) != defaults[n])
    return "--head gap logistic" + (f" without {' and '.join(given)}" if given else "")


def _fits(name: str, spec: HeadSpec, **changes: Any) -> bool:
    settings = dataclasses.replace(spec.settings, **changes)
    return weights_of(HEADS[name].load()(spec._replace(settings=settings))) <= MANY * spec.examples


def _size(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e3:,.0f} kB"
