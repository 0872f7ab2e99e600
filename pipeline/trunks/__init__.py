"""Pixels → feature maps: frozen networks. A new one is a file and an entry here."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from cache.identity import differences, with_flags
from pipeline.errors import ConfigError, WeightsError
from pipeline.trunks.spec import TrunkNames, TrunkSpec, parse

if TYPE_CHECKING:
    from pipeline.trunks.base import Trunk
    from pipeline.trunks.layers import Layer


@dataclass(frozen=True)
class TrunkInfo:
    """All that is known of a trunk, or of a library of them, before torch is imported."""

    target: str
    """`module:function` (weights: Path | None) -> Trunk; of a library, a `pipeline.trunks.network.Opened`."""
    summary: str
    """A phrase for --help and the documentation."""
    untrained: str | None = None
    """`module:function` (widths, stage_layers) -> Trunk with its initial weights; None when it can't be
    pretrained here."""
    is_network: bool = False
    """Whether the target is an `Opened` as well."""

    def load(self, weights: Path | None = None) -> "Trunk":
        """The trunk with its published weights, or with those in a file. Raises: WeightsError."""
        return resolve_name(self.target)(weights)

    def load_untrained(self, widths: Sequence[int], stage_layers: int) -> "Trunk":
        """The trunk of this shape with its initial weights, to be trained."""
        if self.untrained is None:
            raise ValueError(f"{self.target}: has no untrained form")
        return resolve_name(self.untrained)(widths, stage_layers)


TRUNKS: dict[str, TrunkInfo] = {
    "alexnet-cifar": TrunkInfo(
        target="pipeline.trunks.alexnet_cifar:load",
        summary="small, for 32-pixel images, trained on CIFAR-10; maps of 256×5×5",
        untrained="pipeline.trunks.alexnet_cifar:untrained",
    ),
    "alexnet-cifar-wide": TrunkInfo(
        target="pipeline.trunks.alexnet_cifar:load_wide",
        summary="the same kind with more channels and layers: higher scores, half as fast; maps of 256×5×5",
    ),
    "efficientnet-lite0": TrunkInfo(
        target="pipeline.trunks.efficientnet_lite0:open_model",
        summary="EfficientNet-Lite0 with ImageNet weights, 224-pixel images; maps of 320×7×7 (160: 5×5)",
        is_network=True,
    ),
    "alexnet": TrunkInfo(
        target="pipeline.trunks.imagenet:alexnet",
        summary="AlexNet with ImageNet weights, 208-pixel images; maps of 256×5×5",
    ),
    "vgg16": TrunkInfo(
        target="pipeline.trunks.imagenet:vgg16",
        summary="VGG-16 with ImageNet weights, 448-pixel images; maps of 512×14×14",
    ),
}

SOURCES: dict[str, TrunkInfo] = {
    "torchvision": TrunkInfo("pipeline.trunks.torchvision_models:open_model", "torchvision's classifiers"),
    "timm": TrunkInfo("pipeline.trunks.timm_models:open_model", "any model of timm"),
    "transformers": TrunkInfo(
        "pipeline.trunks.transformers_models:open_model",
        "a vision model on the Hugging Face hub, or in a folder",
    ),
}
"""The libraries whose models are trunks: SOURCE:MODEL."""
OWN = "pipeline.trunks.own_code:open_model"

TRUNK_NAMES = TrunkNames(TRUNKS, sources=SOURCES)
FLAGS = {
    **{f"trunk.{field}": "--trunk" for field in ("name", "layer", "code", "class")},
    "trunk.library": "install that version",
    **{f"trunk.{field}": "--weights" for field in ("weights", "random_seed", "widths", "stage_layers")},
    **{
        f"transform.{field}": f"--{field.replace('_', '-')}"
        for field in ("image_px", "resize", "interpolation", "crop_share", "mean", "std")
    },
}
"""What sets each field of a trunk's identity: the flag, where it is one."""


def load_trunk(spec: str, weights: Path | str | None = None, **transform: Any) -> "Trunk":
    """The trunk that a specification of one layer names.

    Args:
        spec: NAME, SOURCE:MODEL, PATH.py:FUNCTION or MODULE:FUNCTION, with @LAYER for another than the last.
        weights: a file; None for the published ones; "none" for random ones.
        transform: fields of the transform that shall differ from the model's own, such as image_px.

    Raises: ConfigError when there is no such model or layer, or its package is not installed; WeightsError.
    """
    trunks = load_trunks(spec, weights, **transform)
    if len(trunks) != 1:
        raise ConfigError(f"--trunk: expected one layer, found {len(trunks)} in {spec}")
    return trunks[0]


def load_trunks(spec: str, weights: Path | str | None = None, **transform: Any) -> tuple["Trunk", ...]:
    """A trunk for each layer that a specification names, all of one network. Raises: as `load_trunk`."""
    parts = _parsed(spec)
    load = resolve_name("pipeline.trunks.loading:load_trunks")
    return load(parts, _opener(parts, weights), weights, transform)


def layers_of(spec: str, **transform: Any) -> list["Layer"]:
    """Every layer of a model that gives maps, whatever layers the specification names. Needs no weights.

    Raises: ConfigError.
    """
    parts = _parsed(spec)
    return resolve_name("pipeline.trunks.loading:layer_table")(parts, _opener(parts, "none"), transform)


def layer_lines(spec: str, **transform: Any) -> list[str]:
    """`layers_of` as lines of a table: name, maps' shape, and parameters from the image to there."""
    rows = [("layer", "map", "parameters")]
    for layer in layers_of(spec, **transform):
        rows.append((layer.name or "(all)", "×".join(map(str, layer.shape)), f"{layer.parameters:,}"))
    name, shape, count = (max(len(row[column]) for row in rows) for column in range(3))
    return [f"{row[0]:{name}}  {row[1]:>{shape}}  {row[2]:>{count}}" for row in rows]


def trunk_of_identity(
    identity: Mapping[str, Any], weights: Path | str | None = None, spec: str | None = None
) -> "Trunk":
    """The trunk that made a cache's features, with the transform they were made with.

    spec: where the trunk is now, if its code or folder has moved.

    Raises: ConfigError as `load_trunk`, or where the features were imported; WeightsError naming the fields
        in which what is here differs.
    """
    if "imported" in identity:
        raise ConfigError(
            "the features were imported (python -m cache import), so no trunk is known that makes them of "
            "photos; import those of the new photos too, and name their folder with --cache"
        )
    made = identity["trunk"]
    name = (spec or made["name"]) + (f"@{made['layer']}" if made.get("layer") else "")
    transform = resolve_name("pipeline.images.transform:Transform").from_json(identity["transform"])
    fields = {f.name: getattr(transform, f.name) for f in dataclasses.fields(transform)}
    if (parts := _parsed(name)).source == "own":  # a run may come from anywhere: nothing else is executed
        resolve_name("pipeline.trunks.own_code:refuse_other_code")(parts.model, made.get("code"))
    trunk = load_trunk(name, "none" if "random_seed" in made and weights is None else weights, **fields)
    found = {"trunk": trunk.as_json() | {"name": made["name"]}, "transform": trunk.transform.as_json()}
    if differ := differences({name: identity[name] for name in found}, found):
        raise WeightsError(
            f"trunk {trunk.name}: not the one that made the features: {'; '.join(with_flags(differ, FLAGS))}"
        )
    return trunk


def _parsed(spec: str) -> TrunkSpec:
    if spec not in TRUNK_NAMES:
        raise ConfigError(f"--trunk: {TRUNK_NAMES.refusal(spec)}")
    parts = parse(spec, SOURCES)
    if parts.source == "own" and (place := parts.model.rpartition(":"))[0].endswith(".py"):
        here = os.path.relpath(place[0]) if Path(place[0]).resolve().is_relative_to(Path.cwd()) else place[0]
        parts = dataclasses.replace(parts, model=f"{here}:{place[2]}")
    return parts


def _opener(parts: TrunkSpec, weights: Path | str | None) -> Any:
    """The model's adapter, of which the name is known."""
    info = TRUNKS.get(parts.model) if not parts.source else SOURCES.get(parts.source)
    if info is None or parts.source or info.is_network:
        return partial(resolve_name(info.target if info else OWN), parts.model)
    if weights == "none" and parts.layers != ("?",):
        raise ConfigError(f"--weights: {parts.model} has no random weights; leave it out, or give a file")
    file = None if weights in (None, "none") else Path(weights)  # pyright: ignore[reportArgumentType]
    return lambda pretrained, image_px: info.load(file)
