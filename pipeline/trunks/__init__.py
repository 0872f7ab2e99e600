"""Pixels → feature maps: frozen networks. A new one is a file and an entry here."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from cache.identity import differences, with_flags
from pipeline.checks import one_of
from pipeline.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from pipeline.trunks.base import Trunk


@dataclass(frozen=True)
class TrunkInfo:
    """All that is known of a trunk before torch is imported."""

    target: str
    """`module:function` (weights: Path | None) -> Trunk."""
    summary: str
    """A phrase for --help and the documentation."""
    untrained: str | None = None
    """`module:function` () -> Trunk with its initial weights; None when it can't be pretrained here."""

    def load(self, weights: Path | None = None) -> "Trunk":
        """The trunk with its published weights, or with those in a file. Raises: WeightsError."""
        return resolve_name(self.target)(weights)

    def load_untrained(self) -> "Trunk":
        """The trunk with its initial weights, to be trained."""
        if self.untrained is None:
            raise ValueError(f"{self.target}: has no untrained form")
        return resolve_name(self.untrained)()


TRUNKS: dict[str, TrunkInfo] = {
    "alexnet-cifar": TrunkInfo(
        target="pipeline.trunks.alexnet_cifar:load",
        summary="small, for 32-pixel images, trained on CIFAR-10; maps of 256×5×5",
        untrained="pipeline.trunks.alexnet_cifar:untrained",
    ),
    "efficientnet-lite0": TrunkInfo(
        target="pipeline.trunks.efficientnet_lite0:load",
        summary="EfficientNet-Lite0 with ImageNet weights, 224-pixel images; maps of 320×7×7 (160: 5×5)",
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

FLAGS = {
    "trunk.name": "--trunk",
    "trunk.weights": "--weights",
    "transform.image_px": "--image-px",
    "transform.resize": "--resize",
}
"""The flag that sets each field of a trunk's identity."""


def load_trunk(spec: str, weights: Path | str | None = None) -> "Trunk":
    """The trunk that a specification names, with its published weights or those in a file.

    Raises: ConfigError when there is none of this name, or its package is not installed; WeightsError.
    """
    if spec not in TRUNKS:
        raise ConfigError(f"--trunk: {one_of(TRUNKS, spec)}")
    return TRUNKS[spec].load(Path(weights) if weights else None)


def trunk_of_identity(identity: Mapping[str, Any], weights: Path | str | None = None) -> "Trunk":
    """The trunk that made a cache's features, with the transform they were made with.

    Raises: ConfigError as `load_trunk`; WeightsError naming the fields in which what is here differs.
    """
    trunk = load_trunk(identity["trunk"]["name"], weights)
    trunk = dataclasses.replace(trunk, transform=trunk.transform.from_json(identity["transform"]))
    found = {"trunk": trunk.as_json(), "transform": trunk.transform.as_json()}
    if differ := differences({name: identity[name] for name in found}, found):
        raise WeightsError(
            f"trunk {trunk.name}: not the one that made the features: {'; '.join(with_flags(differ, FLAGS))}"
        )
    return trunk
