"""Pixels → feature maps: frozen networks. A new one is a file and an entry here."""

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

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
    "alexnet": TrunkInfo(
        target="pipeline.trunks.imagenet:alexnet",
        summary="AlexNet with ImageNet weights, 208-pixel images; maps of 256×5×5",
    ),
    "vgg16": TrunkInfo(
        target="pipeline.trunks.imagenet:vgg16",
        summary="VGG-16 with ImageNet weights, 448-pixel images; maps of 512×14×14",
    ),
}
